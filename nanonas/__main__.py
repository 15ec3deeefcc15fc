"""`python -m nanonas`, alone or with a search's flags, runs a search; else it is the command
`nanonas`.
"""

import sys

from nanonas.cli import main

arguments = sys.argv[1:]
flags = not arguments or (
    arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--help-all", "--version")
)
raise SystemExit(main(["search", *arguments] if flags else arguments))
