"""Fewer bits: the one definition of our int8 arithmetic, how its ranges are found, and what it costs layer by layer."""
