"""Stop strings: the earliest end wins, whatever the pieces."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.text import find_stop, held_back
from toolkit.completion.text import StopSearch
from toolkit.errors import InvalidRequest

WORDS = st.text(alphabet="abé", min_size=1, max_size=5) | st.text("ab", min_size=1, max_size=9)
STOPS = st.lists(WORDS, max_size=5)


def released(search: StopSearch, pieces: list[str]) -> str:
    return "".join(map(search.feed, pieces)) + search.finish()


@pytest.mark.parametrize(
    ("stops", "text", "kept", "stop"),
    [
        (["bc", "abcd"], "abcd", "a", "bc"),
        (["abcd", "bc"], "abcd", "a", "bc"),
        (["lo", "ell"], "hello", "h", "ell"),
    ],
)
def test_case_48_earliest_end_wins(stops, text, kept, stop):
    for pieces in ([text], list(text)):
        search = StopSearch(stops)
        assert released(search, pieces) == kept
        assert (search.stop, search.start) == (stop, len(kept))


def test_case_49_tie_goes_to_the_first_in_the_list():
    first, second = StopSearch(["c", "bc"]), StopSearch(["bc", "c"])
    assert (released(first, ["abc"]), first.stop) == ("ab", "c")
    assert (released(second, ["abc"]), second.stop) == ("a", "bc")


def test_case_57_nothing_of_a_stop_is_ever_released():
    search = StopSearch(["own fox"])
    assert [search.feed(char) for char in "brown fox jumps"] == ["b", "r"] + [""] * 13
    assert (search.finish(), search.stop, search.start) == ("", "own fox", 2)


def test_case_58_broken_off_stop_is_released():
    search = StopSearch(["own fox"])
    assert search.feed("brown ") == "br"
    assert search.feed("dog") == "own dog"


def test_case_60_the_overlap_begins_anew():
    search = StopSearch(["ab"])
    assert [search.feed(char) for char in "aab"] == ["", "a", ""]
    assert search.stop == "ab"


def test_a_stop_that_overlaps_itself():
    # After aabaaa comes b instead of c: aab is still the beginning of the stop string.
    search = StopSearch(["aabaaac"])
    assert [search.feed(char) for char in "aabaaabaaac"] == [""] * 6 + ["aaba"] + [""] * 4
    assert search.start == 4


def test_an_included_stop_is_released_with_the_text_before_it():
    search = StopSearch(["fox"], include=True)
    assert [search.feed(piece) for piece in ("a f", "ox jumps", "more")] == ["a f", "ox", ""]
    assert (search.finish(), search.start) == ("", 2)


def test_an_empty_stop_is_refused():
    with pytest.raises(InvalidRequest, match="`stop` must not contain ''") as refused:
        StopSearch(["a", ""])
    assert refused.value.param == "stop"


@given(STOPS, st.lists(WORDS, max_size=8), st.booleans())
def test_any_pieces_give_the_naive_answer(stops: list[str], pieces: list[str], include: bool):
    text = "".join(pieces)
    found = find_stop(text, stops)
    search = StopSearch(stops, include=include)
    assert released(search, pieces) == (
        text if found is None else text[: found.end if include else found.start]
    )
    assert search.stop == (found and found.stop)
    assert search.start == (found and found.start)


@given(STOPS, st.text(alphabet="abé", max_size=20))
def test_case_61_held_text_is_the_longest_overlap(stops: list[str], text: str):
    search = StopSearch(stops)
    out = ""
    for number, char in enumerate(text, 1):
        out += search.feed(char)
        if search.stop is not None:
            return
        assert out + held_back(text[:number], stops) == text[:number]


def test_a_long_stop_costs_nothing_until_the_text_follows_it():
    stop = "ab" * 1_000_000
    tracemalloc.start()
    search = StopSearch([stop, "c"])
    text = search.feed("ab" * 100 + "a" + "c")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (text, search.stop) == ("ab" * 100 + "a", "c")
    assert peak < 100_000  # bytes; a table of the whole string would take 16 million
