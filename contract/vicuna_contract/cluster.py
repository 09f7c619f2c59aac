"""How our programs find the API server and its credentials: one order of places, one proxy."""

import os.path
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

__all__ = ["configure"]

DEFAULT_KUBECONFIG = "~/.kube/config"


async def configure(configuration: Any, loaders: Any, environ: Mapping[str, str]) -> None:
    """Fill a client's configuration from KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Args:
        configuration: a `kubernetes.aio` configuration.
        loaders: the module `kubernetes.aio.config`, which reads the files.
        environ: the environment.

    Raises:
        ValueError: there are no usable credentials; the message says what to do.
    """
    kubeconfig = environ.get("KUBECONFIG") or os.path.expanduser(DEFAULT_KUBECONFIG)  # noqa: ASYNC240  # no I/O
    in_pod = not environ.get("KUBECONFIG") and bool(environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if in_pod:
            loaders.load_incluster_config(client_configuration=configuration)
        else:
            await loaders.load_kube_config(
                config_file=kubeconfig, client_configuration=configuration, persist_config=False
            )
    except Exception as error:  # the loader lets YAML, key and type errors through
        place = "the pod's service account" if in_pod else f"the kubeconfig {kubeconfig}"
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"no cluster: {place} cannot be used ({cause}); set KUBECONFIG, or run inside a cluster"
        ) from error
    # Otherwise aiohttp reads the environment in another thread, twice before each request.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_for(configuration.host)


def _proxy_for(server: str) -> str | None:
    """Find the environment's proxy for the way to this server."""
    where = urlsplit(server)
    if proxy_bypass(where.hostname or ""):
        return None
    return getproxies().get(where.scheme)
