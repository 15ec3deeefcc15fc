"""A search on a table of trained networks."""
