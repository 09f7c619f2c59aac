"""Merging weights and serving them: no kopf, nothing of the operator."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("vicuna-operator")
