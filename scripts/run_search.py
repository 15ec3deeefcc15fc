"""Runs a search: the same flags as `nanonas search`."""

import sys

from nanonas.cli import main

sys.exit(main(["search", *sys.argv[1:]]))
