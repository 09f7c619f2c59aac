"""The Kubernetes operator for VicunaModel: no torch, nothing of the server."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("vicuna-operator")
