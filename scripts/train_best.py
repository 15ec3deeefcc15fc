"""Trains a run's best network for good: the same flags as `nanonas train`."""

import sys

from nanonas.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
