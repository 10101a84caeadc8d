"""What an operator needs around the server."""
