"""The clean-up Job says what the server's command line understands."""

import argparse
import json
from pathlib import Path

from support.world import model_body
from vicuna_operator.api.model import parse_model
from vicuna_operator.resources.prune_job import prune_job
from vicuna_server.merge.artifacts_cli import add_arguments


def test_the_job_keeps_what_it_is_told_to() -> None:
    model = parse_model(model_body())
    body = prune_job(model, keep={"b" * 16, "a" * 16}, image="i:1", pull_policy="Never", shared_volume=True)
    (container,) = body["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    command, *words = container["args"]
    args = parser.parse_args(words)
    assert (command, args.action, args.root) == ("artifacts", "prune", Path("/models/artifacts"))
    assert args.keep == ["a" * 16, "b" * 16]
    assert args.min_age <= 15 * 60, "planning waits so long before it makes the Job"
    assert json.loads(body["metadata"]["annotations"]["vicuna.dev/kept-artifacts"]) == args.keep
