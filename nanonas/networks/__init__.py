"""The one picture of an architecture, and what can be read from it."""
