"""The Kubernetes operator for VicunaModel: no torch, nothing of the server."""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # the import takes longer than a command may wait that is told to stop

        return version("vicuna-operator")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
