"""Git, DVC and their programs, as the tools call them."""
