import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.cluster import model_body
from support.world import CONFIG, World
from support.world_kubectl import WorldKubectl
from vicuna_contract.vllm_arguments import VLLM_IMAGE
from vicuna_operator.errors import PluginError
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.plugin import commands
from vicuna_operator.plugin.cli import main

Capture = pytest.CaptureFixture[str]


def edited(*concurrencies: int, **spec: Any) -> World:
    """Return a world in which each of these edits was rolled out, after a first revision."""
    world = World(model_body(**spec))
    world.deploy()
    for value in concurrencies:
        world.edit(serving={"maxConcurrency": value})
        world.settle()
    return world


def run(world: World, *words: str) -> int:
    def connect(flags: Sequence[str]) -> WorldKubectl:
        assert list(flags) == ["--namespace=team"]
        return WorldKubectl(world)

    return main([*words, "--namespace", "team"], connect=connect)


def active(world: World) -> str:
    return str(world.status["active"]["revision"])


def test_status_shows_the_whole_family(capsys: Capture) -> None:
    world = edited(7)
    assert run(world, "status", "demo") == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0] == "VicunaModel team/demo: Ready, 1/1 ready"
    assert f"revision {active(world)}: active, target, 1 of 1 ready, registry.example/server:1" in text
    assert ": ready on n1" in text
    assert "Job demo-merge-" in text
    assert "http://demo.team.svc:8000" in text


def test_status_names_what_keeps_a_pod_from_starting(capsys: Capture) -> None:
    world = World(model_body(serving={"numGpus": 8}), gpus=4)
    world.reconcile()
    world.end_job()
    for _ in range(3):
        world.reconcile()
        world.run_deployments()
    assert run(world, "status", "demo", "--output", "json") == 0
    tree = json.loads(capsys.readouterr().out)
    (revision,) = [child for child in tree["children"] if child["kind"] == "revision"]
    (pod,) = revision["children"]
    assert pod["cause"].startswith(
        "Unschedulable: scheduler: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.; free or add nodes"
    )


def test_status_before_any_operator(capsys: Capture) -> None:
    assert run(World(), "status", "demo") == 0
    assert "not seen by an operator yet" in capsys.readouterr().out


def test_history_says_what_can_be_gone_back_to(capsys: Capture) -> None:
    world = edited(7, 8, 9)
    assert run(world, "history", "demo", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["outcome"] for row in rows] == ["Succeeded"] * 4
    assert [row["kept"] for row in rows] == [True, True, True, False]
    assert [row["now"] for row in rows] == ["active,target", "", "", ""]
    assert run(world, "history", "demo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["REVISION", "ARTIFACTID", "IMAGE", "SINCE", "OUTCOME", "REASON", "KEPT", "NOW"]
    assert len(lines) == 5


def test_history_has_a_column_for_vllms_image_once_a_revision_had_one(capsys: Capture) -> None:
    world = World(model_body(serving={"replicas": 1}))
    world.deploy()
    world.edit(serving={"engine": "vllm"})
    world.settle()
    assert run(world, "history", "demo") == 0
    head, newest, *older = capsys.readouterr().out.splitlines()
    assert head.split()[2:5] == ["IMAGE", "ENGINEIMAGE", "SINCE"]
    assert newest.split()[2:4] == [CONFIG.server_image, VLLM_IMAGE]
    assert [line.split()[2:4] for line in older if "Succeeded" in line] == [[CONFIG.server_image, "-"]]


def test_rollback_brings_the_last_good_revision_back_and_merges_nothing(capsys: Capture) -> None:
    world = edited()
    first = active(world)
    world.edit(serving={"maxConcurrency": 7, "replicas": 3, "rollout": {"strategy": "Drain"}})
    world.settle()
    assert active(world) != first
    deployments = {item["metadata"]["name"] for item in world.all("Deployment")}
    assert run(world, "rollback", "demo") == 0
    assert first in capsys.readouterr().out
    world.settle()
    assert (active(world), world.condition("Ready")["status"], world.status["ready"]) == (first, "True", "3/3")
    assert world.body["spec"]["serving"]["rollout"] == {"strategy": "Drain"}, "not part of a revision"
    assert {item["metadata"]["name"] for item in world.all("Deployment")} == deployments
    assert len(world.all("Job")) == 1


def test_rollback_to_a_named_revision_and_to_one_that_is_gone(capsys: Capture) -> None:
    world = edited(7, 8)
    second = world.status["history"][1]["revision"]
    assert run(world, "rollback", "demo", "--to", second) == 0
    world.settle()
    assert active(world) == second
    assert run(world, "rollback", "demo", "--to", "00000000") == 1
    said = capsys.readouterr().err
    assert "00000000 is not kept" in said
    assert second in said


def test_rollback_from_weights_that_fail_keeps_what_serves() -> None:
    world = edited(7)
    before = active(world)
    world.edit(weights={"base": {"source": "pvc://inputs/other"}})
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False}))
    world.reconcile()
    assert world.condition("Stalled")["status"] == "True"
    assert run(world, "rollback", "demo") == 0
    world.settle()
    assert (active(world), world.condition("Ready")["status"]) == (before, "True")


def test_rollback_after_an_automatic_one_makes_the_spec_say_what_runs() -> None:
    world = edited()
    good = active(world)
    world.edit(serving={"maxConcurrency": 7})
    world.reconcile()
    world.crashing[world.status["target"]["revision"]] = {"exitCode": 65, "message": "no"}
    world.settle()
    assert world.condition("Ready")["reason"] == "RolledBack"
    assert run(world, "rollback", "demo") == 0
    world.settle()
    assert (active(world), world.condition("Ready")["status"]) == (good, "True")


def test_rollback_of_an_upgrade_states_the_image() -> None:
    world = edited()
    old = active(world)
    world.config = PlanConfig(server_image="registry.example/server:2")
    world.reconcile()
    assert run(world, "upgrade", "demo") == 0
    world.settle()
    assert active(world) != old
    assert run(world, "rollback", "demo") == 0
    world.settle()
    assert active(world) == old
    assert world.body["spec"]["serving"]["image"] == CONFIG.server_image


def test_upgrade_and_rollback_with_vllm_are_of_both_images(capsys: Capture) -> None:
    world = World(model_body(serving={"replicas": 1, "engine": "vllm", "image": "front:1"}))
    world.deploy()
    old = active(world)
    world.config = PlanConfig(server_image=CONFIG.server_image, vllm_image="registry.example/vllm:2")
    world.reconcile()
    assert run(world, "upgrade", "demo") == 0, "the front's image is stated, vLLM's is not"
    world.settle()
    assert active(world) != old
    assert run(world, "rollback", "demo") == 0
    world.settle()
    assert active(world) == old
    assert world.body["spec"]["serving"]["engineImage"] == VLLM_IMAGE
    world.edit(serving={"engineImage": "mine:1"})
    world.settle()
    assert run(world, "upgrade", "demo") == 1
    said = "spec.serving.image states front:1 and spec.serving.engineImage states mine:1; change it there"
    assert said in capsys.readouterr().err


def test_rollback_to_another_claim_and_back() -> None:
    world = edited()
    first = active(world)
    world.add_claim("shared")
    world.edit(storage={"claimName": "shared", "size": None})
    world.reconcile()
    world.end_job()
    world.settle()
    second = active(world)
    for revision in (first, second):
        assert run(world, "rollback", "demo", "--to", revision) == 0
        world.settle()
        assert active(world) == revision


def test_rollback_warns_where_manifests_are_applied_by_something_else(capsys: Capture) -> None:
    world = edited(7)
    fields: dict[str, Any] = {"f:spec": {"f:serving": {".": {}, "f:maxConcurrency": {}, "f:replicas": {}}}}
    managed = [
        {"manager": "argocd-controller", "fieldsV1": fields},
        {"manager": "kubectl-edit", "fieldsV1": fields},
    ]
    world.kube.change("VicunaModel", "demo", {"metadata": {"managedFields": managed}}, "team")
    assert run(world, "rollback", "demo", "--dry-run") == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "warning: spec.serving.maxConcurrency is managed by argocd-controller, which may set it again;"
        " change it at its source too"
    ]
    assert "maxConcurrency" not in json.loads(said.out)["spec"]["serving"]
    assert world.body["spec"]["serving"]["maxConcurrency"] == 7


def test_rollback_with_nothing_to_go_back_to(capsys: Capture) -> None:
    assert run(edited(), "rollback", "demo") == 1
    assert "no other kept revision" in capsys.readouterr().err


def test_an_edit_in_between_is_not_overwritten(capsys: Capture) -> None:
    world = edited(7)

    class Slow(WorldKubectl):
        def write(self, *words: str) -> None:
            world.edit(serving={"maxConcurrency": 99})
            super().write(*words)

    assert main(["rollback", "demo"], connect=lambda _: Slow(world)) == 1
    assert "generation" in capsys.readouterr().err
    assert world.body["spec"]["serving"]["maxConcurrency"] == 99


def test_retry_tries_a_terminal_failure_again() -> None:
    world = World()
    world.reconcile()
    world.end_job(65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False}))
    world.reconcile()
    assert run(world, "retry", "demo") == 0
    world.reconcile()
    world.end_job()
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_upgrade_where_there_is_nothing_to_take(capsys: Capture) -> None:
    assert run(edited(), "upgrade", "demo") == 0
    assert "already" in capsys.readouterr().out
    stated = edited(serving={"image": "mine:1"})
    assert run(stated, "upgrade", "demo") == 1
    assert "spec.serving.image states mine:1" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "part"), [((), "vicuna-server"), (("--merge",), "vicuna-merge")])
def test_logs(words: tuple[str, ...], part: str) -> None:
    kubectl = WorldKubectl(edited())
    assert main(["logs", "demo", "-f", *words], connect=lambda _: kubectl) == 0
    (shown,) = kubectl.shown
    assert f"--selector=vicuna.dev/model=demo,app.kubernetes.io/name={part}" in shown
    assert "--follow" in shown


def with_vllm() -> World:
    world = World(model_body(serving={"replicas": 1}))
    world.deploy()
    world.silent.add(world.status["active"]["revision"])
    world.edit(serving={"engine": "vllm"})
    world.reconcile()
    world.run_deployments()
    return world


def test_logs_of_vllm_are_of_the_pods_that_have_it() -> None:
    world = with_vllm()
    assert len({pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in world.server_pods()}) == 2
    kubectl = WorldKubectl(world)
    assert main(["logs", "demo", "--engine", "-p"], connect=lambda _: kubectl) == 0
    (shown,) = kubectl.shown
    assert {"--container=engine", "--previous"} <= {*shown}
    revision = world.status["target"]["revision"]
    assert any(word.endswith(f"=vicuna-server,vicuna.dev/revision in ({revision})") for word in shown)


def test_logs_of_vllm_where_there_is_none(capsys: Capture) -> None:
    assert run(edited(), "logs", "demo", "--engine") == 1
    assert "demo has no pod with vLLM; leave --engine out" in capsys.readouterr().err


def test_the_tree_shows_both_images_and_how_vllm_ended(capsys: Capture) -> None:
    world = with_vllm()
    for pod in world.server_pods():
        if len(pod["spec"]["containers"]) == 2:
            ended = {"exitCode": 0, "message": "", "finishedAt": "2026-01-01T01:00:00Z"}
            front = {"name": "server", "state": {"running": {}}}
            states = [front, {"name": "engine", "state": {"terminated": ended}}]
            world.put({**pod, "status": {**pod["status"], "phase": "Running", "containerStatuses": states}})
    assert run(world, "status", "demo") == 0
    shown = capsys.readouterr().out
    assert "registry.example/server:1, vllm/vllm-openai:v0.32.0" in shown
    assert "EngineCrashed: vLLM (container engine) ended with exit code 0" in shown
    assert "running, not ready" not in shown, "one of its containers has ended"
    assert shown.count(": done") == 1, "the merge alone"


def test_logs_before_there_are_servers_are_the_merges() -> None:
    world = World()
    world.reconcile()
    world.job_pod()
    kubectl = WorldKubectl(world)
    assert main(["logs", "demo"], connect=lambda _: kubectl) == 0
    assert "vicuna-merge" in " ".join(kubectl.shown[0])


def test_logs_of_a_pod_that_is_gone_are_its_last_lines(capsys: Capture) -> None:
    world = World()
    world.reconcile()
    told = {"reason": "TensorMissing", "message": "m", "retryable": False, "log": "one\ntwo"}
    world.end_job(65, json.dumps(told), reason="Error")
    world.reconcile()
    for pod in world.all("Pod"):
        world.remove(pod)
    assert run(world, "logs", "demo") == 0
    shown = capsys.readouterr()
    assert shown.out == "one\ntwo\n"
    assert "ended with TensorMissing at " in shown.err


def test_no_control_character_of_a_container_reaches_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(r"""#!/bin/sh
case "$*" in
*logs*) printf '[pod/x] \033]0;owned\007\033[31mred\033[0m\r\n\377 end'; exit 3;;
*"get pods"*) echo '{"items": [{}]}';;
*) echo '{"metadata": {"name": "demo", "generation": 1}, "status": {}}';;
esac
""")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert main(["logs", "demo"]) == 3
    assert capfd.readouterr().out == "[pod/x] red\n\ufffd end"


def test_words_in_a_status_cannot_steer_the_terminal(capsys: Capture) -> None:
    world = World()
    world.reconcile()
    told = {"reason": "TensorMissing", "message": "\x1b[2Jm\x07", "retryable": False, "log": "\x1b]0;x\x07one"}
    world.end_job(65, json.dumps(told), reason="Error")
    world.reconcile()
    assert not {"\x1b", "\x07"} & set(json.dumps(world.status, ensure_ascii=False))
    body = world.body
    body["status"]["conditions"][0]["message"] = "\x1b[2Jby hand"
    world.put(body)
    for words in (["status", "demo"], ["logs", "demo"], ["status", "demo", "--output=json"]):
        run(world, *words)
    shown = capsys.readouterr()
    assert "by hand" in shown.out
    assert not {"\x1b", "\x07"} & set(shown.out + shown.err)


def test_logs_where_there_is_nothing_to_read(capsys: Capture) -> None:
    assert run(World(), "logs", "demo") == 1
    assert "see `kubectl vicuna status demo`" in capsys.readouterr().err


def test_wait_ends_when_ready_when_stalled_or_when_time_is_over(capsys: Capture) -> None:
    world = World()
    clock = iter(range(100))

    def wait(timeout: float) -> int:
        def sleep(_: float) -> None:
            world.reconcile()
            world.run_deployments()
            world.make_ready()
            if unfinished := [job for job in world.all("Job") if not job.get("status")]:
                assert len(unfinished) == 1
                world.end_job(*ends)

        return commands.wait(
            WorldKubectl(world), "demo", timeout=timeout, clock=lambda: float(next(clock)), sleep=sleep
        )

    ends: tuple[Any, ...] = ()
    assert wait(50) == 0
    ends = (65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False}))
    world.edit(weights={"base": {"source": "pvc://inputs/other"}})
    with pytest.raises(PluginError, match="NotADelta") as stalled:
        wait(20)
    assert stalled.value.exit_code == 1
    world.edit(weights={"base": {"source": "pvc://elsewhere/base"}})
    with pytest.raises(PluginError, match="not ready within 3 s") as late:
        wait(3)
    assert late.value.exit_code == 124
    assert "ClaimNotFound" in capsys.readouterr().err


def test_errors_are_one_line_with_kubectls_own_words(capsys: Capture) -> None:
    assert run(World(), "status", "nobody") == 1
    said = capsys.readouterr().err
    assert said.startswith("kubectl vicuna status: Error from server (NotFound)")
    with pytest.raises(SystemExit) as usage:
        main(["explode"])
    assert usage.value.code == 64


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["logs", "demo"]) == 127
    assert "kubectl is not on PATH" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        "echo 'E1125 17:06:46.292777 4780 memcache.go:381] Could not get the API group list' >&2\n"
        "echo 'The connection to the server was refused' >&2\n"
        "exit 1\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert main(["status", "demo"]) == 1
    assert capsys.readouterr().err == "kubectl vicuna status: The connection to the server was refused\n"


def test_status_names_what_has_drifted(capsys: Capture) -> None:
    world = edited()
    world.edit(storage={"size": "1Gi"})
    world.settle()
    assert run(world, "status", "demo") == 0
    assert "StorageNotFollowed: spec.storage.size says 1Gi" in capsys.readouterr().out


def test_takeover_names_the_operator_on_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.deploy()
    assert main(["takeover", "demo", "--by", "ns/op"], connect=lambda _: WorldKubectl(world)) == 0
    assert world.body["metadata"]["annotations"]["vicuna.dev/managed-by"] == "ns/op"
    assert "ns/op works on demo" in capsys.readouterr().out
    for wrong in ("op", "/op", "ns/", "a/b/c"):
        assert main(["takeover", "demo", "--by", wrong], connect=lambda _: WorldKubectl(world)) != 0
        assert "NAMESPACE/LEASE" in capsys.readouterr().err


@pytest.mark.parametrize(("stalled", "looks"), [(False, True), (True, False)])
def test_retry_verifies_the_artifact_where_nothing_else_failed(stalled: bool, looks: bool) -> None:
    world = World()
    world.deploy()
    if stalled:
        world.edit(weights={"base": {"source": "pvc://inputs/other"}})
        world.reconcile()
        world.end_job(65, '{"reason": "NotABase", "message": "no"}')
        world.settle()
        assert world.condition("Stalled")["status"] == "True"
    assert main(["retry", "demo"], connect=lambda _: WorldKubectl(world)) == 0
    annotations = world.body["metadata"]["annotations"]
    assert "vicuna.dev/retry" in annotations
    assert ("vicuna.dev/verify" in annotations) is looks
