"""The chat command line."""
