"""`pipe demo`: film clips of printed photographs, and run the whole chain on them."""
