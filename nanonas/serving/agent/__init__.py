"""Measures networks that others send: `nanonas agent`, on the machine where they will run."""
