"""`pipe compare`: tables and figures of experiments. May import `tools/studies`."""
