"""What happened in a run, in one file."""
