"""Pages and API of the monitor."""
