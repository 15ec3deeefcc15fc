"""Running a search: the store, the loop, and the workers."""
