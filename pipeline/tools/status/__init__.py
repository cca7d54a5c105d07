"""`pipe status`: what the project holds, what is stale, and what to do next."""
