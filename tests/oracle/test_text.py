"""The naive text functions against Python's decoder and the contract's edge cases."""

from __future__ import annotations

import codecs
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.text import (
    contributing,
    dangling,
    final_text,
    find_stop,
    held_back,
    offsets,
    partial_text,
)


@given(st.lists(st.sampled_from(b"a\x80\xbf\xc3\xa9\xe0\xed\xf0\x9f\xf4\xff")).map(bytes))
@settings(max_examples=500, deadline=None)
def test_text_is_that_of_pythons_decoder(data: bytes):
    assert final_text(data) == data.decode("utf-8", errors="replace")
    # Python's incremental decoder waits for the third byte of a surrogate, which cannot be valid.
    if not re.search(rb"\xed[\xa0-\xbf]$", data):
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        assert partial_text(data) == decoder.decode(data)


def test_unfinished_bytes_wait_and_invalid_bytes_do_not():  # 62, 63, 65, 66
    rocket = "🚀".encode()
    assert partial_text(b"a" + rocket[:3]) == "a" and final_text(b"a" + rocket[:3]) == "a\ufffd"
    assert partial_text(rocket[:2] + b"b") == "\ufffdb" and partial_text(b"\xff") == "\ufffd"
    assert dangling(b"ab" + rocket[:2]) == rocket[:2] and dangling(b"\xff") == b""


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("abcd", ["bc", "abcd"], "a"),  # 48
        ("abcd", ["abcd", "bc"], "a"),
        ("hello", ["lo", "ell"], "h"),
        ("abc", ["c", "bc"], "ab"),  # 49
        ("abc", ["bc", "c"], "a"),
        ("aab", ["ab"], "a"),  # 60
        ("aaa", ["aa"], ""),
    ],
)
def test_the_stop_that_ends_first_wins(text, stops, cut):
    found = find_stop(text, stops)
    assert found is not None and text[: found.start] == cut


def test_held_back_text_is_the_longest_proper_prefix_of_a_stop():  # 57, 58, 61
    assert held_back("br", ["own fox"]) == "" and held_back("brow", ["own fox"]) == "ow"
    assert held_back("brown d", ["own fox"]) == "" and held_back("xaba", ["abab", "ac"]) == "aba"


def test_offsets_count_characters_at_the_first_byte():  # 64, 67
    rocket = "🚀".encode()
    assert offsets([b"a", rocket[:1], rocket[1:2], rocket[2:], b"b", b""]) == [0, 1, 1, 1, 2, 3]
    assert offsets([rocket[1:], b"b"], before=rocket[:1]) == [0, 1]
    assert offsets([b"a", b"", b"b", b""]) == [0, 1, 1, 2]
    assert offsets([b"a", rocket[:1], b"", b"b", rocket[:1], b""]) == [0, 1, 1, 2, 3, 3]


def test_tokens_that_give_a_byte_to_the_text():  # 55, 64
    assert contributing([b"hel", b"lo", b"!", b""], 4) == [0, 1]
    assert contributing([b"a", b"\xf0", b"\x9f\x9a", b"\x80"], 2) == [0, 1, 2, 3]
    assert contributing([b"a", b"b"], 0) == []
