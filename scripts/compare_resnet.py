"""Compares a run's best network with ResNet-18 and others: the same flags as `nanonas compare`."""

import sys

from nanonas.cli import main

sys.exit(main(["compare", *sys.argv[1:]]))
