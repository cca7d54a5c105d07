"""The stages that turn a checkpoint into a bundle that has proven itself."""
