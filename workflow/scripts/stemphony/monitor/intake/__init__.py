"""Events on their way into the database."""
