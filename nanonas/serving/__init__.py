"""A run's page, live."""
