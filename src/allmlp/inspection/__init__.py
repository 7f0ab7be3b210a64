"""What a network costs and what it consists of."""
