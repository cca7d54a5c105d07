"""Commands that are no stage. They may import any room below, and only the command line imports them."""
