"""A run at rest: its folder, its genome files, its networks."""
