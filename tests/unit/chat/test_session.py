"""The chat's loop with a model and a console made up here."""

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from vicuna_server.chat.backend import ChatMessage, Options, Report
from vicuna_server.chat.session import Session
from vicuna_server.chat.transcript import Transcript
from vicuna_server.errors import InputError, UsageError
from vicuna_server.tools.output import CallArguments, CallBegin, OutputPart, ReasoningText, Text


class Parrot:
    """Repeats the last question; fails at "fail", is interrupted behind the first word of "stop"."""

    report = Report("stop", 7, 3, 2)

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.options: list[Options] = []
        self.closed = 0
        self.title = "parrot"

    def use(self, model: str | None) -> None:
        if model == "dodo":
            raise InputError("NoModel", "dodo is gone")
        self.title = model or "parrot"

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[OutputPart, None, None]:
        self.options.append(options)
        self.sent.append([message["content"] for message in messages])
        try:
            for word in messages[-1]["content"].split():
                if word == "fail":
                    raise InputError("RequestRefused", "no")
                yield Text(f"{word} ")
                if word == "stop":
                    raise KeyboardInterrupt
        finally:
            self.closed += 1

    def close(self) -> None: ...


class Script:
    """Gives lines; an exception among them is raised."""

    def __init__(self, *lines: str | BaseException, interactive: bool = True) -> None:
        self.interactive = interactive
        self._lines = list(lines)

    def read(self) -> str | None:
        line = self._lines.pop(0) if self._lines else None
        if isinstance(line, BaseException):
            raise line
        return line


def chat(*lines: str | BaseException, interactive: bool = True, debug: bool = False) -> Parrot:
    parrot = Parrot()
    Session(parrot, Transcript(), Options(), debug=debug).run(Script(*lines, interactive=interactive))
    assert parrot.closed == len(parrot.sent)
    return parrot


def test_a_pipe_gets_only_answers_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = chat("one", "", "two", interactive=False)
    assert parrot.sent == [["one"], ["one", "one ", "two"]]
    assert capsys.readouterr() == ("one \ntwo \n", "")


def test_ctrl_c_stops_the_answer_and_keeps_the_part_that_arrived() -> None:
    assert chat("a stop b", "next").sent[-1] == ["a stop b", "a stop ", "next"]


def test_ctrl_c_at_the_prompt_forgets_the_line_only() -> None:
    assert chat(KeyboardInterrupt(), "next").sent == [["next"]]
    with pytest.raises(KeyboardInterrupt):
        chat(KeyboardInterrupt(), interactive=False)
    with pytest.raises(KeyboardInterrupt):
        chat("stop", interactive=False)


def test_a_failure_is_printed_and_its_question_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert chat("a", "fail", "b").sent[-1] == ["a", "a ", "b"]
    assert "RequestRefused: no" in capsys.readouterr().err
    with pytest.raises(InputError):
        chat("fail", interactive=False)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "talk.json"
    parrot = chat(
        "a", f"!!save {file}", "!!reset", "b", "!!regen", f"!!load {file}", "c", "!!remove", "d", "!!exit", "e"
    )
    assert parrot.sent == [["a"], ["b"], ["b"], ["a", "a ", "c"], ["a", "a ", "d"]]
    assert f"2 messages are saved in {file}." in capsys.readouterr().out


@pytest.mark.parametrize("line", ["!!what", "!!save", "!!reset now"])
def test_a_wrong_command_names_the_right_ones(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    chat(line, "!!help")
    out, err = capsys.readouterr()
    assert "!!save FILE" in err
    assert "!!regen" in out
    with pytest.raises(UsageError):
        chat(line, interactive=False)


def test_the_system_text_is_set_replaced_taken_away_and_outlives_a_reset() -> None:
    parrot = chat("!!system Be brief.", "a", "!!reset", "b", "!!system Be kind.", "!!regen", "!!system", "!!regen")
    assert parrot.sent == [["Be brief.", "a"], ["Be brief.", "b"], ["Be kind.", "b"], ["b"]]


def test_settings_are_changed_for_the_next_answer(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = chat("a", "!!set temperature 0", "!!set top-p 0.5", "!!set seed -4", "b", "!!set seed default", "!!set")
    assert parrot.options == [Options(), Options(temperature=0.0, top_p=0.5, seed=-4)]
    told = capsys.readouterr().out
    assert "seed default\nmax-new-tokens default\nsystem default" in told


def test_another_model_continues_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = chat("a", "!!set model macaw", "b", "!!set", "!!set model dodo", "!!set model", "c", "!!set model default")
    assert parrot.sent[-1] == ["a", "a ", "b", "b ", "c"]
    out, err = capsys.readouterr()
    assert "model macaw\ntemperature default" in out
    assert "NoModel: dodo is gone" in err
    assert "!!set model: the value is missing" in err
    assert parrot.title == "parrot"


@pytest.mark.parametrize("line", ["!!set", "!!set temperature 3", "!!set top-p x", "!!set seed 1.5", "!!set magic 1"])
def test_an_invalid_setting_is_an_error_and_changes_nothing(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat(line, "a").options == [Options()]
    assert ("!!set" in capsys.readouterr().err) == (line != "!!set")


def test_missing_token_counts_are_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot()
    parrot.report = Report()
    Session(parrot, Transcript(), Options(), debug=True).run(Script("a"))
    told = capsys.readouterr().err
    assert told.startswith("[stopped: an unknown number of tokens in ")
    assert "prompt" not in told


def test_debug_tells_counts(capsys: pytest.CaptureFixture[str]) -> None:
    chat("a", debug=True)
    assert "[stop: 7 prompt tokens, 3 of them cached; 2 tokens in " in capsys.readouterr().err


def test_control_characters_do_not_reach_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    chat("\x1b]0;title\x07 \x9b2J ok")
    out = capsys.readouterr().out
    assert "ok" in out
    assert not set(out) & {"\x1b", "\x07", "\x9b"}


class Agent(Parrot):
    """Thinks, answers with one word, and calls two tools."""

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[OutputPart, None, None]:
        self.sent.append([message["content"] for message in messages])
        yield ReasoningText("\nHm\x1b[2J,")
        yield ReasoningText(" well.")
        yield Text("Yes.")
        yield CallBegin(0, "a", "add")
        yield CallBegin(1, "b", "now")
        yield CallArguments(0, '{"x":')
        yield CallArguments(0, " 1}")


@pytest.mark.parametrize("thoughts", [False, True])
def test_thoughts_and_calls_are_told_beside_the_answer_and_never_sent(
    thoughts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Agent()
    Session(agent, Transcript(), Options(), thoughts=thoughts).run(Script("a", "b", interactive=False))
    out, err = capsys.readouterr()
    assert out == "Yes.\nYes.\n"
    assert ("Hm\x1b[2J, well.\n[thought for 0.0 s]" in err) == thoughts
    assert err.count('[thought for 0.0 s]\n[tool call, not run: add {"x": 1}]\n[tool call, not run: now]\n') == 2
    assert agent.sent == [["a"], ["a", "Yes.", "b"]]


def test_thoughts_are_dim_and_harmless_at_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for thoughts, told in (
        (True, "\x1b[2mHm\N{REPLACEMENT CHARACTER}[2J,\x1b[0m"),
        (False, "\x1b[2m[thinking]\n\x1b[0m"),
    ):
        Session(Agent(), Transcript(), Options(), thoughts=thoughts).run(Script("a"))
        assert capsys.readouterr().err.startswith(told)


def test_a_stopped_answer_goes_on_and_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = chat("!!continue", "a stop b", "!!continue", "!!continue now", "!!regen", "c")
    assert parrot.sent[:2] == [["a stop b"], ["a stop b", "a stop"]]  # without the blank at its end
    assert parrot.sent[-1][:2] == ["a stop b", "a stop "]
    out, err = capsys.readouterr()
    assert "There is no answer to continue." in out
    assert "!!continue is not a command in this form" in err


@pytest.mark.parametrize("command", ["!!continue", "!!regen"])
def test_an_answer_that_cannot_go_on_or_come_anew_is_kept(command: str) -> None:
    transcript = Transcript()
    transcript.ask("fail")
    transcript.answer("fail ")
    with pytest.raises(InputError):
        Session(Parrot(), transcript, Options()).run(Script(command, interactive=False))
    assert [one["content"] for one in transcript.messages] == ["fail", "fail "]


def test_a_cut_answer_names_the_way_on(capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot()
    parrot.report = Report("length", 7, 3, 2)
    for interactive in (True, False):
        Session(parrot, Transcript(), Options(max_tokens=2)).run(Script("a", interactive=interactive))
        assert ("!!continue goes on" in capsys.readouterr().err) == interactive


def test_quotes_around_several_lines_are_not_sent_and_hide_commands() -> None:
    assert chat('"""\n!!help\nb\n"""').sent == [["!!help\nb"]]
    assert chat('"""a"""', interactive=False).sent == [['"""a"""']]


def test_debug_tells_the_speed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr("vicuna_server.chat.session.time.monotonic", lambda: next(times))
    chat("a b", debug=True)
    told = capsys.readouterr().err
    assert "2 tokens in 3.00 s, the first text after 1.00 s, 0.5 tokens/s]" in told
