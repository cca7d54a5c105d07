"""`pipe predict`: classify pictures, folders and videos with the project's graph or with a bundle."""
