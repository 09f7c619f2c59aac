"""Calls of tools and reasoning: how each family of models writes them, and how they are read from an answer."""
