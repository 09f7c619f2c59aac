"""Progress lines: what a merge prints is what the operator finds in its log."""

import json

from vicuna_contract import events


def test_the_last_whole_line_that_tells_how_far_it_is() -> None:
    lines = [json.dumps(events.progress(count, 10, 5)) for count in (1, 2)]
    log = "\n".join(["loading", *lines, json.dumps(events.warning("BaseLossy", "x")), "[" * 50_000, lines[0][:20]])
    assert events.last_progress(log) == events.progress(2, 10, 5)
    assert events.last_progress(json.dumps(events.done("0" * 16, "/models"))) == events.done("0" * 16, "/models")
    assert events.last_progress("loading\n") is None
