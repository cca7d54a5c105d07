"""`pipe clean`: delete what can be made again, and what no commit needs."""
