"""Writes a run's report and its figures: the same flags as `nanonas report`."""

import sys

from nanonas.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
