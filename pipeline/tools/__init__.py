"""Commands that are no stage. They may import any room below; nothing but the command line imports them."""
