"""Recipes that make the checkpoints this project ships, and the loop that they share."""
