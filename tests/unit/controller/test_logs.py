import json
import logging
import sys

import pytest

from vicuna_operator.controller.logs import JsonFormatter, PlainFormatter


def test_one_json_object_per_line_with_the_exception_inside() -> None:
    try:
        raise ValueError("é\nbad")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "model %s", ("m",), sys.exc_info())
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "model m"
    assert line["level"] == "error"
    assert line["logger"] == "x"
    assert "ValueError" in line["exception"]
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()])
def test_what_somebody_said_steers_no_terminal(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "it said %s", ("\x1b[2J\u009b!",), None)
    text = formatter.format(record)
    assert not set(text) & set("\x1b\u009b")
    assert "it said !" in text
