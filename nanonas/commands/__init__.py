"""The verbs of the command line, a file each: its flags, its call, its words."""
