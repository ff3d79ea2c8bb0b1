"""Bytes to characters, whatever the chunks."""

from __future__ import annotations

import codecs


class IncrementalUTF8:
    """UTF-8 in pieces, with the text that `bytes.decode(errors="replace")` gives for the whole.

    A character comes out once its last byte is there. Bytes that cannot become a character come out
    as U+FFFD, one for each longest valid beginning, as the Unicode standard recommends. `pending`
    primes the decoder with the beginning of a character, for instance the end of a prompt.

    Raises `ValueError` when `pending` is more than the beginning of one character.
    """

    def __init__(self, pending: bytes = b""):
        self.pending = b""
        """The bytes of the character that is not complete yet: at most three."""
        self.characters = 0
        """Number of code points that have come out so far."""
        if self.feed(pending):
            raise ValueError(f"`pending` must be an incomplete UTF-8 character, got {pending!r}.")

    def feed(self, data: bytes) -> str:
        """The characters that `data` completes."""
        return self._decode(data, final=False)

    def finish(self) -> str:
        """What is left when no more bytes come: U+FFFD for an incomplete character, or nothing."""
        return self._decode(b"", final=True)

    def locate(self, token: bytes) -> tuple[int, str]:
        """Feed a token: index of the character that holds its first byte, characters completed.

        An empty token has the index of the first character that is not complete.
        """
        if not self.pending:
            return self.characters, self.feed(token)
        head = self.feed(token[:1])
        # Toy: F0 9F | 98 stays pending, so it belongs to the character to come; F0 9F | "a" gives
        # U+FFFD and "a", and the byte belongs to the last of the two.
        index = self.characters if self.pending else self.characters - 1
        return index, head + self.feed(token[1:])

    def _decode(self, data: bytes, *, final: bool) -> str:
        data = self.pending + data
        text, used = codecs.utf_8_decode(data, "replace", final)
        if data[used : used + 1] == b"\xed" and data[used + 1 :] >= b"\xa0":
            # The codec waits for the third byte of a surrogate, which no byte can make valid.
            text, used = codecs.utf_8_decode(data, "replace", True)
        self.pending = data[used:]
        self.characters += len(text)
        return text
