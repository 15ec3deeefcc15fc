"""Where candidates are measured."""
