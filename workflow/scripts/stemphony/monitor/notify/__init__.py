"""Send messages about simulations to people and programs."""
