"""Write results in the file formats of other programs. Start reading with request.py."""
