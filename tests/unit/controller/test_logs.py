import json
import logging
import sys

from vicuna_operator.controller.logs import JsonFormatter


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
