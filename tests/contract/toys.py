"""The model of the contract's cases: a Markov table over bytes, EOS and words, for every scenario.

A prompt's last token chooses the scenario. After an upper-case letter comes the path below, with
probability 1 - 1e-10; after anything else come random bytes and words. Reading the table tells what
every test must find.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from tests.oracle.toy import ToyVocabulary, random_table

CONTEXT = 64
ROWS = 8
"""Sequences that run together; more wait."""
FLOOR = -30.0
EOS = ToyVocabulary.eos_id
END = b"<|end|>"
SMILE = "\N{GRINNING FACE}".encode()  # f0 9f 98 80
ROCKET = "\N{ROCKET}".encode()
SUN = "日".encode()

PATHS: dict[bytes, tuple[bytes, ...]] = {
    b"A": (b"one ", b"tw", b"o t", b"hree", END),
    b"B": (b"abcd", END),
    b"C": (b"hello", END),
    b"D": (b"abc", END),
    b"T": (b"OP", END),
    b"E": (b"br", b"own f", b"ox", END),
    b"F": (b"bro", b"wn d", b"og", END),
    b"G": (b"dr", b"own", END),
    b"H": (b"aa", b"b", END),
    b"I": (END,),
    b"J": (b"ok", END),
    b"K": (b"caf", b"\xc3", b"\xa9", END),
    b"L": (b"hi ", *(bytes([byte]) for byte in SMILE), b"!", END),
    b"M": (b"\xff", b"ok"),
    b"N": (ROCKET, b"go", END),
}
"""What follows a letter, token by token; no token has two successors."""

BRANCHES: dict[bytes, dict[bytes, float]] = {
    # Says "la" until a penalty of 2 for each occurrence has made " di" better.
    b"O": {b"la": 0.0},
    b"la": {b"la": 3.0, b" di": 0.0},
    b" di": {b"la": 3.0},
    b"P": {b"xx": math.log(0.5), b"yy": math.log(0.3), b"zz": math.log(0.2)},
    b"xx": {END: 0.0},
    b"yy": {END: 0.0},
    b"zz": {END: 0.0},
    # Short or long: -0.69 against -1.01 in sum, -0.35 against -0.20 in the mean.
    b"R": {b"sh": math.log(0.5), b"lo": math.log(0.5)},
    b"sh": {END: 0.0},
    b"lo": {b"ng": math.log(0.9), END: math.log(0.1)},
    b"ng": {b"er": math.log(0.9), END: math.log(0.1)},
    b"er": {b"!!": math.log(0.9), END: math.log(0.1)},
    b"!!": {END: 0.0},
    # Two texts of exactly equal probability.
    b"S": {b"left": math.log(0.5), b"right": math.log(0.5)},
    b"left": {END: 0.0},
    b"right": {END: 0.0},
    b"U": {b"in": 0.0, b"a": -math.inf, b"b": -math.inf},
    b"in": {END: 0.0},
    b"W": {bytes([ord("a") + logit]): logit for logit in range(8)},
}
"""Logits of what may follow a token; every other token has the floor."""

PIECES = (
    b"\xf0\x9f",
    b"\x98\x80!",
    b"\x9f\x98",
    b"b\xc3",
    b"\xa9e",
    "\u00e9t\u00e9".encode(),
    b"ab",
    b"bc",
    b"\n",
)
"""Words that only the random rows use: parts of characters, and other ways to spell a text."""
FILLERS = (b"f1", b"f2")
"""Give way to the marks of fill-in-the-middle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwinVocabulary(ToyVocabulary):
    """A vocabulary with a special token that reads like one of the words."""

    @property
    def specials(self) -> dict[str, int]:
        return {"<|end|>": self.eos_id, SUN.decode(): 257 + len(self.words)}


def _words() -> tuple[bytes, ...]:
    named = [*itertools.chain(*PATHS.values()), *BRANCHES, *itertools.chain(*BRANCHES.values())]
    longer = [piece for piece in (*named, *PIECES) if len(piece) > 1 and piece != END]
    return (*dict.fromkeys(longer), SUN)


WORDS = _words()
VOCABULARY = TwinVocabulary(words=WORDS + FILLERS)
BEGINNING = ToyVocabulary(words=WORDS + FILLERS, bos=True)
INFILLING = ToyVocabulary(words=WORDS, fim=True)
SIZE = VOCABULARY.size
TWIN = VOCABULARY.specials[SUN.decode()]


def ids(*pieces: bytes) -> list[int]:
    """Tokens by their bytes."""
    return [VOCABULARY.id_of(piece) for piece in pieces]


def table() -> np.ndarray:
    """The logits after each token: `[V, V]`."""
    rows = random_table(SIZE, 3)
    rows[:, EOS] = 3.0  # one text in six ends within sixteen random tokens
    rows[:, ids(*(bytes([letter]) for letter in b"acdefghi"))] += 3.0
    rows[:, ids(*PIECES[:-1])] += 3.0
    for last, following in _edges():
        rows[VOCABULARY.id_of(last)] = FLOOR
        for piece, logit in following.items():
            rows[VOCABULARY.id_of(last), VOCABULARY.id_of(piece)] = logit
    sun = VOCABULARY.id_of(b"V")
    rows[sun] = FLOOR
    rows[sun, [VOCABULARY.id_of(SUN), TWIN]] = np.log([0.6, 0.4])
    rows[[VOCABULARY.id_of(SUN), TWIN]] = FLOOR
    rows[[VOCABULARY.id_of(SUN), TWIN], EOS] = 0.0
    return rows


def infilling_table() -> np.ndarray:
    """The same, and after the mark of the middle comes "ok"."""
    rows = table()
    middle = INFILLING.specials["<|fim_middle|>"]
    rows[middle] = FLOOR
    rows[middle, INFILLING.id_of(b"ok")] = 0.0
    return rows


def _edges() -> Iterable[tuple[bytes, Mapping[bytes, float]]]:
    paths = {}
    for start, path in PATHS.items():
        for last, following in itertools.pairwise((start, *path)):
            if paths.setdefault(last, following) != following:
                raise ValueError(f"{last!r} has two successors.")
    return [*((last, {piece: 0.0}) for last, piece in paths.items()), *BRANCHES.items()]
