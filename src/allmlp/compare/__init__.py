"""Networks side by side under one protocol: ours, and any of timm's. `allmlp compare` is its command line."""
