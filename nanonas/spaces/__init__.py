"""What can be built: search spaces, and the picture of an architecture that they all decode to."""
