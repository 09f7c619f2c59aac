"""Applies weight deltas in bounded memory and publishes the result as an artifact."""
