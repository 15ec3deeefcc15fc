"""The rows behind every figure and table."""
