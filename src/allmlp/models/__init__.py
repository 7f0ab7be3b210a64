"""The networks: one skeleton (`model.py`), many blocks (`blocks/`), every published size by name (`variants.py`)."""
