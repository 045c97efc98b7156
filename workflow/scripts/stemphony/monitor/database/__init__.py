"""The database of the monitor: its tables, and the functions that read them."""
