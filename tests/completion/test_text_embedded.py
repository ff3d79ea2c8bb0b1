"""The vocabulary of the embedded model against the numbers and against transformers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from toolkit.completion.text import ChoiceText, Tokenizer

NASTY = [
    "Hello, world! It's 12345 -- 3.14\n",
    "😀🎉 👩\u200d👩\u200d👧\u200d👦",
    "مرحبا بالعالم ١٢٣",
    "\x00\x01\x1b[0m\x7f\x85\u2028\ufeff\ufffd",
    "a    b\n\n\n   c\t\t d  \r\n",
    "<|im_start|>user\nhi<|im_end|> x<|endoftext|>y <|im_start",
    "日本語テキスト e\u0301 é",
    "def f(x):\n\treturn x**2\n",
    "\U0010ffff\u200b\u00a0",
]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(folder, vocab_size=49152)


def test_ids_are_those_of_transformers(folder: Path, tokenizer: Tokenizer):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(0)
    characters = "".join(NASTY) + " \n0a" * 20
    mixtures = ["".join(draw.choices(characters, k=30)) for _ in range(300)]
    for text in NASTY + mixtures:
        assert tokenizer.encode(text) == theirs(text)["input_ids"], text
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_by_hand(tokenizer: Tokenizer):
    assert tokenizer.encode("1234") == [33, 34, 35, 36]  # each digit alone
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert [tokenizer.token_str(i) for i in (504, 3575, 282)] == ["The", " capital", " of"]


def test_specials(tokenizer: Tokenizer):
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.fim) == (1, (2,), None)
    assert tokenizer.special_ids == set(range(17))
    assert tokenizer.encode_prompt("") == ([1], 1)
    assert tokenizer.encode_prompt("<|im_start|>") == ([1], 0)


def test_every_token_has_bytes_of_its_own(tokenizer: Tokenizer):
    vocabulary = tokenizer.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) == 49152
    assert b"" not in vocabulary


def test_cases_62_64_and_66_split_emoji(tokenizer: Tokenizer):
    ids = tokenizer.encode("🚀")
    pieces = [tokenizer.token_bytes(i) for i in ids]
    assert b"".join(pieces) == "🚀".encode() and len(pieces) > 1
    assert all(tokenizer.legacy_token(i).startswith(r"bytes:\x") for i in ids)
    head, dangling = tokenizer.split(ids[:-1])
    choice = ChoiceText(dangling=dangling)
    choice.push(pieces[-1])
    assert (head, choice.text, choice.offsets) == ("", "🚀", [0])
