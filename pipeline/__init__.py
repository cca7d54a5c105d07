"""The stages that turn phone clips into a trained and honestly judged image classifier."""
