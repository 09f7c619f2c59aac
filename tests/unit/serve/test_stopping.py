"""Stop strings across piece borders."""

from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.engine.stopping import StopFilter

letters = st.text(alphabet="ab#", max_size=30)
stops = st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), max_size=3)


def whole(text: str, stop_strings: list[str]) -> str:
    """The plain meaning: read letter by letter, cut at the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        matching = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if matching:
            return text[: end - max(map(len, matching))]
    return text


@given(letters, stops, st.data())
def test_any_split_shows_what_the_whole_text_would(text: str, stop_strings: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    stop_filter = StopFilter(stop_strings)
    shown = ""
    for piece in pieces:
        shown += stop_filter.push(piece)
        # Never more than the final text: no part of a stop string is shown and taken back.
        assert whole(text, stop_strings).startswith(shown)
        if stop_filter.stopped:
            break
    if not stop_filter.stopped:
        shown += stop_filter.flush()
    assert shown == whole(text, stop_strings)
    assert stop_filter.stopped == any(stop in text for stop in stop_strings)


def test_holds_back_only_what_could_become_a_stop() -> None:
    stop_filter = StopFilter(["###"])
    assert stop_filter.push("ab#") == "ab"
    assert stop_filter.push("#c") == "##c"
    assert stop_filter.push("##") == ""
    assert stop_filter.push("#d") == ""
    assert stop_filter.stopped
    assert stop_filter.push("more") == ""


def test_the_stop_that_is_complete_first_counts() -> None:
    assert StopFilter(["ab#", "b"]).push("ab#") == "a"
    assert StopFilter(["b", "ab"]).push("ab") == ""


def test_without_stops_text_passes_at_once() -> None:
    assert StopFilter([]).push("ab") == "ab"
