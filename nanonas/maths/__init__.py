"""Functions on arrays: fronts, ranks, intervals. They know nothing of searches."""
