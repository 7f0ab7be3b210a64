"""The page that `allmlp export --to browser` writes: the network runs in the reader's own browser."""
