"""What to try next: search strategies, one algorithm a file."""
