"""Calls where the model's template knows none: the tags of Hermes on one line, as our prompt explains them."""

from dataclasses import replace

from vicuna_server.tools.formats.hermes import BEGIN, END, HERMES

__all__ = ["GENERIC"]

GENERIC = replace(HERMES, name="generic", written=f'{BEGIN}{{"name": "NAME", "arguments": ', end=f"}}{END}")
