"""Programs that run without nanonas; nothing here imports any of it."""
