"""Reading a run: tables and live progress."""
