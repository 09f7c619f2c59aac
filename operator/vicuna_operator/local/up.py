"""`vicuna-operator up`: merge, then serve, on this machine, by the very commands a cluster would run."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vicuna_contract.events import DONE, PROGRESS, WARNING, read_event
from vicuna_contract.exits import ExitCode
from vicuna_contract.merge_arguments import ALLOW_LINKS
from vicuna_contract.names import SOURCE_ROOTS_VARIABLE
from vicuna_contract.printable import printable
from vicuna_contract.termination import read_report
from vicuna_contract.vllm_arguments import VLLM
from vicuna_operator.api.model import Model
from vicuna_operator.api.vllm_rules import heads_fault
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.engine import local_engine
from vicuna_operator.local.keeper import GRACE_SECONDS
from vicuna_operator.local.process import child, one_ended, start, undisturbed
from vicuna_operator.local.translate import LocalCommand, claims_of, translate, with_option
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision
from vicuna_operator.resources.merge_job import merge_job

__all__ = ["LocalRun"]

_IMAGE = "local"
_POLL_SECONDS = 0.2  # a local server has no watch


@dataclass(frozen=True)
class LocalRun:
    """One model on this machine. `data` holds a folder per claim unless `volumes` names another one for it.

    `allow_links`: what links lead to that leave their claim's folder is merged too. `vllm` is the program of
    `serving.engine: vllm`; None: the one on PATH.
    """

    model: Model
    data: Path
    host: str
    port: int
    volumes: Mapping[str, Path] = field(default_factory=dict)
    allow_links: bool = False
    vllm: Path | None = None

    @property
    def url(self) -> str:
        """Return the address of the served API."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def merge(self) -> tuple[str, str | None, str | None]:
        """Run the merge Job's container; seconds if the artifact is there already.

        Returns:
            The artifact's ID, the name of its chat template and the digest of its files; None where the merge did not
            report them.

        Raises:
            LocalRunError: the merge failed, with the cause on standard error. Or a volume is named that the model does
                not use.
        """
        job = merge_job(
            self.model, attempt=0, series="", image=_IMAGE, pull_policy="Never", shared_volume=True, capacity=""
        )
        pod = job["spec"]["template"]["spec"]
        self._require_use(claims_of(pod))
        command = self._command(pod)
        if self.allow_links:
            command = LocalCommand([*command.argv, ALLOW_LINKS], command.env)
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch, "termination-log")
            code = self._run_merge(command, log)
            report = read_report(_read(log))
        if code != 0:
            raise LocalRunError(
                f"the merge failed (exit code {code}); see above", code if code > 0 else ExitCode.INTERRUPTED
            )
        if report is None or report.artifact_id is None:
            raise LocalRunError("the merge ended without naming its artifact; update vicuna-server", ExitCode.ENGINE)
        if fault := heads_fault(spec_of(self.model).serving, report.heads):
            raise LocalRunError(fault, ExitCode.BAD_INPUT)
        return report.artifact_id, report.chat_template, report.digest

    def serve(
        self, artifact_id: str, chat_template: str | None, digest: str | None, command: Sequence[str] = ()
    ) -> int:
        """Serve the artifact until interrupted, or until `command` (which finds VICUNA_URL in its environment) ends.

        Raises:
            LocalRunError: the server ended unexpectedly, with the cause on standard error.
        """
        engine_image = _IMAGE if spec_of(self.model).serving.engine == VLLM else None
        target = revision(spec_of(self.model), artifact_id=artifact_id, image=_IMAGE, engine_image=engine_image)
        deployment = revision_deployment(
            self.model,
            revision=target,
            artifact_id=artifact_id,
            image=_IMAGE,
            engine_image=engine_image,
            pull_policy="Never",
            replicas=1,
            shared_volume=True,
            annotations={},
            chat_template=chat_template,
            digest=digest,
        )
        pod = deployment["spec"]["template"]["spec"]
        here = self._command(pod)
        here = LocalCommand([*with_option(here.argv, "--port", str(self.port)), "--host", self.host], here.env)
        # No load balancer routes to this server: it need not wait until it is taken out of the endpoints.
        quick = {"VICUNA_DRAIN_SECONDS": "0"}
        grace = pod["terminationGracePeriodSeconds"]
        with contextlib.ExitStack() as stack:  # ends in reverse order: the engine after its front
            running = []
            if (engine := local_engine(pod, self._folders(pod), self.vllm)) is not None:
                scratch = stack.enter_context(tempfile.TemporaryDirectory())
                here = engine.behind(here, Path(scratch, "drained"))
                beside = start(engine.command, {}, read_output=False)
                running.append(stack.enter_context(child(beside, 2 * GRACE_SECONDS)))
            server = stack.enter_context(child(start(here, quick, read_output=False), grace))
            running.append(server)
            self._wait_until_ready(running)
            _say(f"{self.model.name} (revision {target}) answers at {self.url}/v1; chat in a browser at {self.url}/")
            if not command:
                _say("press Ctrl-C to stop")
                return self._ended(running)
            return _foreground(command, self.url)

    def _require_use(self, claims: Sequence[str]) -> None:
        """Refuse a claim that the model does not use: a misspelt one would be taken for an empty folder."""
        unused = sorted(set(self.volumes) - set(claims))
        if unused:
            known = ", ".join(sorted(set(claims)))
            raise LocalRunError(
                f"--volume {unused[0]}: the model does not use this claim; name one of {known}", ExitCode.USAGE
            )

    def _folders(self, pod: Mapping[str, Any]) -> dict[str, Path]:
        folders = {name: self.volumes.get(name, self.data / "volumes" / name).resolve() for name in claims_of(pod)}
        for name, folder in folders.items():
            if name not in self.volumes:
                self._make(folder)
            elif not folder.is_dir():
                raise LocalRunError(f"--volume {name}: {folder} is not a folder; create it or correct the path", 66)
        return folders

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"--data {self.data}: {error.filename}: {error.strerror}; name a folder that this user may write"
            raise LocalRunError(message, ExitCode.BAD_INPUT) from None

    def _command(self, pod: Mapping[str, Any]) -> LocalCommand:
        folders = self._folders(pod)
        command = translate(pod, folders)
        roots = os.pathsep.join(str(folder) for folder in folders.values())
        return LocalCommand(command.argv, {**command.env, SOURCE_ROOTS_VARIABLE: roots})

    def _run_merge(self, command: LocalCommand, log: Path) -> int:
        log.touch()
        on_terminal = sys.stdout.isatty()
        process = start(command, {"VICUNA_TERMINATION_LOG": str(log)}, read_output=not on_terminal)
        with child(process, grace_seconds=30):
            if process.stdout is not None:
                for line in process.stdout:
                    _show_progress(line)
            return process.wait()

    def _wait_until_ready(self, running: Sequence[subprocess.Popen[str]]) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
        while all(process.poll() is None for process in running):
            try:
                with direct.open(f"{self.url}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(_POLL_SECONDS)
        self._ended(running)

    def _ended(self, running: Sequence[subprocess.Popen[str]]) -> int:
        """Wait until the server or the engine before it in the list ends, and say which it was."""
        ended = one_ended(*running)
        what, code = "the server" if ended is running[-1] else "vLLM", ended.returncode
        raise LocalRunError(f"{what} ended unexpectedly (exit code {code}); see above", code if code > 0 else 70)


def _foreground(command: Sequence[str], url: str) -> int:
    """Run the user's command on our terminal, which handles Ctrl-C itself."""
    with undisturbed():
        try:
            process = subprocess.Popen(list(command), env={**os.environ, "VICUNA_URL": url})  # noqa: S603
        except OSError as error:
            raise LocalRunError(f"{command[0]}: {error.strerror}", 66) from None
        return process.wait()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _show_progress(line: str) -> None:
    event = read_event(line) or {}
    if event.get("event") == PROGRESS and event.get("bytesTotal"):
        _say(f"merging: {100 * event['bytesDone'] // event['bytesTotal']} %")
    elif event.get("event") == DONE:
        _say(f"merged: artifact {event.get('artifactID')}")
    elif event.get("event") == WARNING:
        _say(f"warning: {event.get('reason')}: {event.get('message')}")
    elif not event:
        _say(line.rstrip())


def _say(text: str) -> None:
    print(printable(text), flush=True)
