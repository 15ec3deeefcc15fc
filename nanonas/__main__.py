"""`python -m nanonas` runs a search; with a verb it is the command `nanonas`."""

import sys

from nanonas.cli import VERBS, main

arguments = sys.argv[1:]
raise SystemExit(main(arguments if arguments and arguments[0] in VERBS else ["search", *arguments]))
