"""Pictures of what a network has learnt: each file has one, a function from values to a matplotlib figure."""
