"""Runs a search: the same flags as `nanonas search`."""

from nanonas.cli import main

raise SystemExit(main(["search"], more=True))
