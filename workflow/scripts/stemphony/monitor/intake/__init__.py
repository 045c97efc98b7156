"""The way of events into the database: read, check, judge and store them."""
