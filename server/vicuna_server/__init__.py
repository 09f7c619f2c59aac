"""Merging weights and serving them; independent of kopf and the operator."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("vicuna-operator")
