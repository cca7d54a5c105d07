"""The command line: one command per stage, the tools, options, exit codes. Nothing imports this room."""
