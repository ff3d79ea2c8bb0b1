"""Bytes to characters: any chunks give the text of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.text import characters, offsets, partial_text
from toolkit.completion.text import IncrementalUTF8

ROCKET = "🚀".encode()  # F0 9F 9A 80
NASTY = st.sampled_from(b"a\x80\xbf\xc0\xc3\xa9\xe0\xa0\xe2\x82\xac\xed\x9f\xf0\x90\xf4\x8f\xff")
PIECES = st.lists(st.lists(NASTY, max_size=4).map(bytes), max_size=12)


@given(PIECES | st.lists(st.binary(max_size=5)))
def test_any_chunks_give_the_text_of_the_whole(pieces: list[bytes]):
    decoder = IncrementalUTF8()
    text = ""
    for number, piece in enumerate(pieces, 1):
        text += decoder.feed(piece)
        assert text == partial_text(b"".join(pieces[:number]))
        assert decoder.characters == len(text)
    assert text + decoder.finish() == b"".join(pieces).decode(errors="replace")


@given(PIECES.map(lambda pieces: [piece for piece in pieces if piece]))
def test_a_token_stands_at_the_character_of_its_first_byte(pieces: list[bytes]):
    decoder = IncrementalUTF8()
    assert [decoder.locate(piece)[0] for piece in pieces] == offsets(pieces)


def test_locate_by_hand():
    decoder = IncrementalUTF8()
    assert decoder.locate(b"a") == (0, "a")
    assert decoder.locate(b"\xf0\x9f") == (1, "")
    assert decoder.locate(b"") == (1, "")  # no bytes: the character that is not complete
    assert decoder.locate(b"\x9a") == (1, "")
    assert decoder.locate(b"\x80b") == (1, "🚀b")
    assert decoder.locate(b"\xe2") == (3, "")
    assert decoder.locate(b"c") == (4, "\ufffdc")  # E2 is broken off and becomes character 3


def test_no_byte_waits_that_cannot_become_a_character():
    decoder = IncrementalUTF8()
    assert decoder.feed(b"\xed\xa0") == "\ufffd\ufffd"  # a surrogate's first two bytes
    assert decoder.pending == b""
    assert decoder.feed(b"\x80\xff\xc0") == "\ufffd\ufffd\ufffd"


def test_a_primed_decoder_completes_the_character():
    decoder = IncrementalUTF8(ROCKET[:2])
    assert (decoder.pending, decoder.characters) == (ROCKET[:2], 0)
    assert decoder.feed(ROCKET[2:]) == "🚀"


@pytest.mark.parametrize("pending", [b"a", b"\xff", ROCKET, b"a" + ROCKET[:1]])
def test_only_the_beginning_of_a_character_can_prime(pending: bytes):
    assert characters(pending)[0]
    with pytest.raises(ValueError, match="`pending` must be an incomplete UTF-8 character"):
        IncrementalUTF8(pending)
