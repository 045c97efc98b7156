"""Tables of the monitor, and everything that reads them."""
