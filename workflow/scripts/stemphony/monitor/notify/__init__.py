"""Messages to people and programs about simulations."""
