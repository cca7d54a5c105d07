"""The command line: commands, options, help, exit codes. It may import any room, and only `__main__` imports it."""
