"""One run's configuration: schema, files, and the table from strings to classes."""
