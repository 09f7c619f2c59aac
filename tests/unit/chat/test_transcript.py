"""The conversation: which messages are sent and removed, and its file."""

import json
from pathlib import Path

import pytest

from vicuna_server.chat.backend import ChatMessage
from vicuna_server.chat.transcript import Transcript
from vicuna_server.errors import InputError


def talked(*pairs: tuple[str, str], remember: bool = True) -> Transcript:
    transcript = Transcript(remember=remember)
    for question, answer in pairs:
        transcript.ask(question)
        transcript.answer(answer)
    return transcript


def texts(messages: list[ChatMessage]) -> list[str]:
    return [message["content"] for message in messages]


def test_a_question_goes_with_all_before_it_unless_nothing_is_remembered() -> None:
    assert texts(talked(("a", "b")).ask("c")) == ["a", "b", "c"]
    assert texts(talked(("a", "b"), remember=False).ask("c")) == ["c"]


def test_answers_and_questions_are_removed() -> None:
    transcript = talked(("a", "b"), ("c", "d"))
    assert texts(transcript.retry() or []) == ["a", "b", "c"]
    assert transcript.remove()
    assert texts(transcript.messages) == ["a", "b"]
    assert transcript.remove()
    assert (transcript.remove(), transcript.retry(), transcript.messages) == (False, None, [])


def test_a_saved_conversation_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    talked(("å\n", "b")).save(file)
    other = Transcript()
    other.load(file)
    assert texts(other.messages) == ["å\n", "b"]
    other.ask("more")
    other.save(file)  # a conversation may be written over
    assert len(json.loads(file.read_text())["messages"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


def test_nothing_but_a_conversation_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt exists and is not a saved conversation"):
        talked(("a", "b")).save(file)
    assert file.read_text() == "years of work"


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file") as caught:
        talked(("a", "b")).save(tmp_path / "none" / "talk.json")
    assert caught.value.reason == "FileNotWritten"


def test_fastchats_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "fastchat.json"
    content = {
        "roles": ["USER", "ASSISTANT"],
        "messages": [["USER", "a"], ["ASSISTANT", "b"], ["USER", None]],
        "offset": 0,
    }
    file.write_text(json.dumps(content))
    transcript = Transcript()
    transcript.load(file)
    assert transcript.messages == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"messages": [1]}',
        '{"messages": [{"role": "tool", "content": "x"}]}',
        '{"messages": [["A", "b"]]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_not_a_conversation_changes_nothing(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    transcript = talked(("a", "b"))
    with pytest.raises(InputError, match="not a saved conversation"):
        transcript.load(file)
    assert texts(transcript.messages) == ["a", "b"]


def test_an_answer_is_continued_without_the_blanks_at_its_end() -> None:
    transcript = talked(("a", "b"), ("c", "d \n"))
    assert texts(transcript.resume() or []) == ["a", "b", "c", "d"]
    transcript.extend(" e")
    assert texts(transcript.messages) == ["a", "b", "c", "d e"]
    assert texts(talked(("a", "b"), ("c", "d"), remember=False).resume() or []) == ["c", "d"]


def test_there_may_be_no_answer_to_continue() -> None:
    for transcript in (Transcript(), talked(("a", "  "))):
        assert transcript.resume() is None
    asked = Transcript()
    asked.ask("a")
    assert asked.resume() is None
