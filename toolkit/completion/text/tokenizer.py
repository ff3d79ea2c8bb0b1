"""Text to token ids, and every token id to its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as Backend

from toolkit.completion.text.backend import load_backend, tokenizer_file, without_prefix_space
from toolkit.completion.text.special import Fim, Specials, read_specials
from toolkit.completion.text.utf8 import IncrementalUTF8
from toolkit.completion.text.vocabulary import Spelling, spelling_of
from toolkit.errors import InvalidRequest


class Tokenizer:
    """The vocabulary of a model: ids of a text, bytes of an id.

    Made by `from_folder`, or by `ids_only` for a model without tokenizer files. `vocab_size` is the
    model's, which may be larger than the tokenizer's: the ids between are padding and have no
    bytes.

    A text is what its bytes say: `decode(a + b)` starts with the bytes of `a`, wherever the ids
    stand. So the space that a SentencePiece vocabulary puts in front of a text is kept:
    `decode(encode("hi"))` is `" hi"` there.

    Raises `UnsupportedModel` when the tokens have no bytes of their own.
    """

    def __init__(
        self,
        backend: Backend | None,
        *,
        vocab_size: int,
        specials: Specials,
        file: Path | None = None,
    ):
        self.vocab_size = vocab_size
        self.specials = specials
        self._backend = backend
        self._file = file
        self._spelling = spelling_of(backend) if backend else Spelling()
        self._added = backend.get_added_tokens_decoder() if backend else {}
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def from_folder(cls, path: Path, *, vocab_size: int) -> Tokenizer:
        """The tokenizer of a checkpoint folder; `ids_only` where the folder has none.

        Raises `CheckpointError` for damaged files, `UnsupportedModel` for a kind that is not
        handled exactly.
        """
        backend = load_backend(path)
        specials = read_specials(path, backend, vocab_size=vocab_size)
        return cls(backend, vocab_size=vocab_size, specials=specials, file=tokenizer_file(path))

    @classmethod
    def ids_only(
        cls, vocab_size: int, *, eos_ids: tuple[int, ...] = (), bos_id: int | None = None
    ) -> Tokenizer:
        """For a model without tokenizer files: prompts are token ids, and token 17 reads `<17>`."""
        start = bos_id if bos_id is not None else next(iter(eos_ids), None)
        return cls(
            None,
            vocab_size=vocab_size,
            specials=Specials(bos_id=bos_id, eos_ids=eos_ids, start_id=start),
        )

    @property
    def bos_id(self) -> int | None:
        """The token that starts a document."""
        return self.specials.bos_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a completion."""
        return self.specials.eos_ids

    @property
    def special_ids(self) -> frozenset[int]:
        """The tokens that are no text."""
        return self.specials.special_ids

    @property
    def fim(self) -> Fim | None:
        """The marks for filling in the middle, if the vocabulary has them."""
        return self.specials.fim

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer file, as hex; of a description where there is no file."""
        description = f"{self.vocab_size} {self.specials}".encode()
        return hashlib.sha256(self._file.read_bytes() if self._file else description).hexdigest()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text; see `encode_prompt`."""
        return self.encode_prompt(text, add_special_tokens=add_special_tokens)[0]

    def encode_prompt(self, text: str, *, add_special_tokens: bool = True) -> tuple[list[int], int]:
        """The ids of a text, and how many of the first ones do not come from the text.

        BOS is put in front only if the tokenizer says so, the ids do not start with it already and
        `add_special_tokens` is true. A text without ids, such as "", is the start of a document:
        one BOS, else the separator of documents, else EOS. Raises `InvalidRequest` where there is
        no such token, no tokenizer, or an id that the model does not have.
        """
        ids = self._encode(text) if text else []
        prefix = self.specials.prefix_ids if add_special_tokens else ()
        if not ids:
            return [self._start_of_document()], 1
        if tuple(ids[: len(prefix)]) == prefix:
            return ids, 0
        return [*prefix, *ids], len(prefix)

    def encode_continuation(self, text: str) -> list[int]:
        """The ids of a text that goes on from another: no BOS, and no space put in front."""
        return self._checked(self._inner.encode(text, add_special_tokens=False).ids)

    def infill(self, prefix: str, suffix: str) -> list[int]:
        """The ids of a prompt for the text between `prefix` and `suffix`.

        The suffix gets no space in front, because it stands after a mark. Raises `InvalidRequest`
        without FIM tokens.
        """
        if self.fim is None:
            raise InvalidRequest(
                "`suffix` needs tokens for filling in the middle, and this vocabulary has none. "
                "Omit it.",
                param="suffix",
            )
        parts = {
            "prefix": [self.fim.prefix_id, *(self._encode(prefix) if prefix else [])],
            "suffix": [self.fim.suffix_id, *(self.encode_continuation(suffix) if suffix else [])],
            "middle": [self.fim.middle_id],
        }
        return [
            *self.specials.prefix_ids,
            *(token for part in self.fim.order for token in parts[part]),
        ]

    def token_bytes(self, token: int) -> bytes:
        """The true bytes of a token; a special one's surface string; b"" for a padding id."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._spell(token)
        return known

    def vocabulary(self) -> list[bytes]:
        """The bytes of all `vocab_size` tokens. Do not change the list."""
        return self._vocabulary

    def token_str(self, token: int) -> str:
        """A token as text; U+FFFD for bytes that are no character on their own."""
        return self.token_bytes(token).decode(errors="replace")

    def legacy_token(self, token: int) -> str:
        r"""Like `token_str`, but `bytes:\xf0\x9f` for bytes that are not valid UTF-8."""
        data = self.token_bytes(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids: their bytes together, read as UTF-8; U+FFFD for what is no character."""
        return self._join(ids).decode(errors="replace")

    def split(self, ids: Sequence[int]) -> tuple[str, bytes]:
        """The text of ids up to their last complete character, and the bytes after that."""
        decoder = IncrementalUTF8()
        text = decoder.feed(self._join(ids))
        return text, decoder.pending

    def dangling(self, ids: Sequence[int]) -> bytes:
        """The bytes of an incomplete character at the end of ids; b"" if they end with a whole one.

        They prime the decoder of the completion. Takes no longer for a longer prompt.
        """
        tail = b""
        for token in reversed(ids):
            tail = self.token_bytes(token) + tail
            if len(tail) >= 3:  # an incomplete character has no more, whatever stands before it
                break
        decoder = IncrementalUTF8()
        decoder.feed(tail)
        return decoder.pending

    def offsets(self, ids: Sequence[int], text: str | None = None) -> list[int]:
        """For each token the code-point index in `decode(ids)` of its first byte's character.

        With `text`, from which the ids were encoded: in that text. There a token of a normalised
        character points to the character it was made from, and a space put in front of the text
        counts as its first character.
        """
        decoder = IncrementalUTF8()
        own = [decoder.locate(self.token_bytes(token))[0] for token in ids]
        if text is None or (decoded := self.decode(ids)) == text:
            return own
        if decoded == " " + text:
            return [max(0, index - 1) for index in own]
        return self._aligned(text, len(ids))

    @cached_property
    def _vocabulary(self) -> list[bytes]:
        return [self.token_bytes(token) for token in range(self.vocab_size)]

    @cached_property
    def _inner(self) -> Backend:
        return without_prefix_space(self._require())

    def _encode(self, text: str) -> list[int]:
        return self._checked(self._require().encode(text, add_special_tokens=False).ids)

    def _require(self) -> Backend:
        if self._backend is None:
            raise InvalidRequest(
                "`prompt` is text, but this model came without tokenizer files. Give token ids, or "
                "put a tokenizer.json into the model's folder.",
                param="prompt",
            )
        return self._backend

    def _checked(self, ids: list[int]) -> list[int]:
        if ids and (worst := max(ids)) >= self.vocab_size:
            raise InvalidRequest(
                f"`prompt` holds {self.token_str(worst)!r}, token {worst} of the tokenizer, but "
                f"the model has only {self.vocab_size} tokens. Leave that string out.",
                param="prompt",
            )
        return ids

    def _start_of_document(self) -> int:
        if self.specials.start_id is None:
            raise InvalidRequest(
                "`prompt` is empty, and this vocabulary has no token for the start of a document. "
                "Give some text or token ids.",
                param="prompt",
            )
        return self.specials.start_id

    def _spell(self, token: int) -> bytes:
        if self._backend is None:
            return f"<{token}>".encode()
        added = self._added.get(token)
        # Added tokens are matched literally in a text, so their bytes are those of the string
        # itself. SentencePiece vocabularies list ordinary pieces (`▁▁`) as added, non-special ones:
        # those are spelt like any other.
        if added is not None and (added.special or self._spelling.byte_level):
            return added.content.encode()
        content = self._backend.id_to_token(token)
        return b"" if content is None else self._spelling.read(content)

    def _join(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.token_bytes, ids))

    def _aligned(self, text: str, count: int) -> list[int]:
        """Offsets that the tokenizer reports; ids in front of the text's own stand at 0."""
        spans = self._require().encode(text, add_special_tokens=False).offsets
        return [0] * (count - len(spans)) + [start for start, _ in spans]
