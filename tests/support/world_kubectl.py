"""kubectl on a World: what the plugin reads and writes, without a cluster."""

import json
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from support.world import World
from vicuna_operator.api.conditions import format_time
from vicuna_operator.errors import PluginError


class WorldKubectl:
    """Answers as kubectl would; `shown` keeps the commands that would have had the terminal."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shown: list[tuple[str, ...]] = []
        self.written: list[tuple[str, ...]] = []

    def read(self, *words: str) -> dict[str, Any]:
        assert words[0] == "get"
        body = self.world.body
        if words[1] == "vicunamodels.vicuna.dev":
            if words[2] != body["metadata"]["name"]:
                raise PluginError(f'Error from server (NotFound): vicunamodels.vicuna.dev "{words[2]}" not found')
            return body
        if words[1] == "events":
            uid = words[2].rpartition("=")[2]
            if uid == body["metadata"]["uid"]:
                return {"items": [*map(_event, self.world.new_events, self.world.noted_at)]}
            found = self.world.events.get(uid, [])
            return {"items": [{"type": e.type, "reason": e.reason, "message": e.message} for e in found]}
        ours = {"vicuna.dev/model": body["metadata"]["name"], "app.kubernetes.io/managed-by": "vicuna-operator"}
        items = [item for item in self.world.kube.objects() if f"{item['kind'].lower()}s" in words[1].split(",")]
        return {"items": [item for item in items if ours.items() <= item["metadata"].get("labels", {}).items()]}

    def write(self, *words: str) -> None:
        self.written.append(words)
        if words[0] == "annotate":
            for word in words[3:]:
                key, equals, value = word.partition("=")
                if equals and not key.startswith("--"):
                    self.world.annotate(key, value)
            return
        (patch,) = [json.loads(word.removeprefix("--patch=")) for word in words if word.startswith("--patch=")]
        if "--type=merge" in words:
            self.world.edit(**patch["spec"])
            return
        test, replace = patch
        assert (test["op"], test["path"]) == ("test", "/metadata/generation")
        if test["value"] != self.world.body["metadata"]["generation"]:
            raise PluginError("the server rejected our request: testing value /metadata/generation failed")
        assert (replace["op"], replace["path"]) == ("replace", "/spec")
        self.world.put({**self.world.body, "spec": replace["value"]})

    def show(self, *words: str) -> int:
        self.shown.append(words)
        return 0

    def forward(self, target: str, port: int) -> AbstractContextManager[str]:
        raise AssertionError(target, port)


def _event(note: tuple[str, str, str], moment: datetime) -> dict[str, str]:
    return {"type": note[0], "reason": note[1], "message": note[2], "lastTimestamp": format_time(moment)}
