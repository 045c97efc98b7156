"""Results in the file formats of other programs. Start with request.py."""
