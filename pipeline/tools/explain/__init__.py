"""`pipe explain`: draw why the checkpoint answers as it does."""
