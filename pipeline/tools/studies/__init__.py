"""`pipe recipe` and `pipe study`: recipes, and their rows run as DVC experiments."""
