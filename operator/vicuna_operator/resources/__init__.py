"""Builders of the objects the operator owns, as plain dicts. Pure."""
