"""`pipe add`: bring recordings into the project, numbered, tracked by DVC, and from the phone's page."""
