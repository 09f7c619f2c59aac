"""Whether an operator runs that manages a model: without one, the status is out of date.

The status names the Lease of the operator that wrote it. A user who may not read that Lease gets no warning.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from vicuna_operator.errors import PluginError
from vicuna_operator.planning.lenient import moment, table, text
from vicuna_operator.plugin.kubectl import Kubectl

__all__ = ["absence", "read_absence"]

_AWAY = timedelta(minutes=2)  # a Lease is renewed every 4 s; the rest allows for a restart, and for clocks that differ
_FORGOTTEN = "NotFound"


def read_absence(kubectl: Kubectl, body: Mapping[str, Any], now: datetime) -> str:
    """Return a warning that no operator manages a model; empty where one does, or where that cannot be known."""
    holder = text(table(body, "status").get("managedBy"))
    namespace, _, name = holder.partition("/")
    if not namespace or not name:
        return ""
    try:
        lease = kubectl.read("get", "leases.coordination.k8s.io", name, f"--namespace={namespace}")
    except PluginError as error:
        return absence(holder, {}, now) if _FORGOTTEN in str(error) else ""
    return absence(holder, table(lease, "spec"), now)


def absence(holder: str, spec: Mapping[str, Any], now: datetime) -> str:
    """Return the warning for a Lease's spec; an empty one means that the Lease does not exist."""
    renewed = moment(spec.get("renewTime"))
    if renewed is None:
        message = f"the Lease {holder} of the operator that manages this model does not exist"
    elif now - renewed >= _AWAY:
        message = f"no operator has renewed the Lease {holder} for {int((now - renewed).total_seconds()) // 60} min"
    else:
        return ""
    return f"{message}: this status may be out of date; check that the operator runs"
