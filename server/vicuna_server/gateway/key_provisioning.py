"""Makes the gateway's key pairs in a cluster, and publishes the public keys.

The private keys are in a Secret that only the gateway mounts. The public keys are in a ConfigMap that the operator
reads. Existing keys are kept: only another `--rotation` lets the next key take over.
"""

import base64
import binascii
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp

from vicuna_server.errors import InputError, UnreachableError
from vicuna_server.gateway.api_server import ApiServer, ApiStatusError
from vicuna_server.gateway.key_pair import KeyPairs
from vicuna_server.gateway.options import NamespacedName

__all__ = ["PUBLIC_KEYS", "ROTATION", "KeyProvisioner", "provision"]

logger = logging.getLogger(__name__)

PUBLIC_KEYS = "public-keys"
"""The ConfigMap's entry."""
ROTATION = "vicuna.dev/signing-rotation"
"""The Secret's annotation: the names of all rotations, the latest last."""

_TRIES = 5
_SECONDS = 30.0

Body = dict[str, Any]


async def provision(secret: NamespacedName, config_map: NamespacedName, rotation: str) -> None:
    """Make what is missing, at the API server of KUBECONFIG or of the pod's service account.

    Raises:
        InputError: `SigningKeyBroken`; UnreachableError: there is no cluster, or it refuses.
    """
    api = ApiServer()
    await api.connect()
    try:
        await KeyProvisioner(api).provision(secret, config_map, rotation)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        said = str(error) or type(error).__name__
        raise UnreachableError(
            "ApiUnreachable", f"the API server does not respond: {said}; run it again once it does"
        ) from None
    finally:
        await api.close()


class KeyProvisioner:
    """Reads and writes the two objects; a write at the same time by somebody else is not overwritten.

    Args:
        api: the API server.
    """

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def provision(self, secret: NamespacedName, config_map: NamespacedName, rotation: str) -> None:
        """Make the Secret if it is not there, carry a rotation out, and publish the public keys.

        Raises:
            InputError: `SigningKeyBroken`: the Secret does not hold key pairs of the gateway; it is not changed.
            UnreachableError: the API server refuses, or others keep writing.
            aiohttp.ClientError, OSError: no response.
        """
        for _ in range(_TRIES):
            pairs = await self._kept(secret, rotation)
            if pairs is not None and await self._published(config_map, pairs.public()):
                return
        raise UnreachableError(
            "Contended", f"others changed {secret.name} or {config_map.name} in each of {_TRIES} tries; run it again"
        )

    async def _kept(self, secret: NamespacedName, rotation: str) -> KeyPairs | None:
        """Return the key pairs that are valid from now on; None where somebody else wrote first."""
        collection = f"/api/v1/namespaces/{secret.namespace}/secrets"
        found = await self._get(f"{collection}/{secret.name}")
        if found is None:
            pairs = KeyPairs.fresh(rotation)
            made = await self._write("POST", collection, _secret(secret, pairs))
            logger.info("the Secret %s %s", secret.name, "is made" if made else "was made by somebody else")
            return pairs if made else None
        metadata = found.get("metadata") or {}
        annotations = metadata.get("annotations") or {}
        before = KeyPairs.of(_decoded(found), annotations.get(ROTATION, "").split())
        after = before.rotated(rotation)
        if after is before:
            return before
        body = {**found, "data": _encoded(after.entries())}
        body["metadata"] = {**metadata, "annotations": {**annotations, ROTATION: " ".join(after.rotations)}}
        written = await self._write("PUT", f"{collection}/{secret.name}", body)
        if written:
            logger.info("the next key of %s has taken over (rotation %s)", secret.name, rotation)
        return after if written else None

    async def _published(self, config_map: NamespacedName, keys: str) -> bool:
        collection = f"/api/v1/namespaces/{config_map.namespace}/configmaps"
        found = await self._get(f"{collection}/{config_map.name}")
        if found is None:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": _named(config_map),
                "data": {PUBLIC_KEYS: keys},
            }
            return await self._write("POST", collection, body)
        if (found.get("data") or {}).get(PUBLIC_KEYS) == keys:
            return True
        body = {**found, "data": {**(found.get("data") or {}), PUBLIC_KEYS: keys}}
        return await self._write("PUT", f"{collection}/{config_map.name}", body)

    async def _get(self, path: str) -> Body | None:
        return await self._ask("GET", path)

    async def _write(self, method: str, path: str, body: Body) -> bool:
        """Return whether it was written; False where it existed already, or had changed since it was read."""
        return await self._ask(method, path, body) is not None

    async def _ask(self, method: str, path: str, body: Body | None = None) -> Body | None:
        try:
            return await self._api.ask(method, path, body, seconds=_SECONDS)
        except ApiStatusError as error:
            if error.status == 409 or (error.status == 404 and method != "POST"):
                return None
            raise UnreachableError("ApiRefused", f"{method} {path}: {error}") from None


def _named(name: NamespacedName) -> Body:
    return {"name": name.name, "namespace": name.namespace, "labels": {"app.kubernetes.io/part-of": "vicuna-operator"}}


def _secret(name: NamespacedName, pairs: KeyPairs) -> Body:
    metadata = _named(name) | {"annotations": {ROTATION: " ".join(pairs.rotations)}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata,
        "data": _encoded(pairs.entries()),
    }


def _encoded(entries: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in entries.items()}


def _decoded(secret: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        return {name: base64.b64decode(value, validate=True) for name, value in (secret.get("data") or {}).items()}
    except (binascii.Error, TypeError, ValueError):
        raise InputError(
            "SigningKeyBroken", "the entries of the Secret are not base64; restore it from a backup"
        ) from None
