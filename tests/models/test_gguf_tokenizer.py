"""Vocabularies of GGUF files against Hugging Face's tokenizers and SentencePiece's own rule."""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from toolkit.completion.text import Tokenizer
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.gguf.tokenizer import tokenizer_files

NASTY = [
    "Hello, world! It's 12345 -- 3.14 and DON'T we'LL\n",
    "😀🎉 👩\u200d👩\u200d👧\u200d👦 🏴\U000e0067\U000e0062\U000e007f",
    "مرحبا بالعالم ١٢٣٤",
    "\x00\x01\x1b[0m\x7f\x85\u2028\u2029\ufeff\ufffd",
    "a    b\n\n\n   c\t\t d  \r\n\r\n",
    " " * 40 + "x" + "\n" * 20 + "\t" * 9 + " ",
    "<|user|>hi<|end|> x<tool>y <|user <|end|><|end|>",
    "日本語テキスト 한국어 e\u0301 é A\u030a ﬁ ½ ⅷ²",
    "def f(x):\n\treturn x**2  # it's\n        pass\n",
    "\U0010ffff\u200b\u00a0\u3000 \u2003",
    "it'sa we'LLgo 'Tis don'th",
    "CamelCaseHTTPServer ÀÉÎ ǅ ʰ iPhone's http://a/b//c",
    "3 33 333 3333 33333 3.3 3..3",
    *(" ", "  ", "\n", "a", " a", "▁a", "<0x0A>"),
]
ADDED = {"<|user|>": 3, "<|end|>": 3, "<tool>": 4}
"""Added token -> gguf.TokenType: two control tokens and one of the user's."""


@functools.cache
def texts() -> list[str]:
    """The nasty ones, and mixtures of their characters."""
    draw = random.Random(0)
    characters = "".join(NASTY) + " \n0a" * 30
    return NASTY + ["".join(draw.choices(characters, k=30)) for _ in range(200)]


def opened(folder: Path, fields: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file's fields, as a prepared folder gives it."""
    for name, contents in tokenizer_files(fields, context=64).items():
        (folder / name).write_text(json.dumps(contents))
    return Tokenizer.from_folder(folder, vocab_size=len(fields["tokenizer.ggml.tokens"]))


def ggml(**fields: Any) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items()}


# Byte-level BPE

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])


def tiktoken(pattern: str) -> Any:
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    tail = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([cut, tail])


# As the tokenizer.json of the models say it.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KINDS: dict[str, tuple[Any, Any, bool]] = {
    "gpt-2": (GPT2, None, False),
    "smollm": (DIGITS, None, False),
    "starcoder": (DIGITS, None, False),
    "olmo": (GPT2, normalizers.NFC(), False),
    "llama-bpe": (tiktoken(LLAMA3), None, True),
    "smaug-bpe": (tiktoken(LLAMA3), None, True),
    "dbrx": (tiktoken(LLAMA3), None, False),
    "qwen2": (tiktoken(QWEN2), normalizers.NFC(), False),
    "tekken": (tiktoken(TEKKEN), None, True),
    "gpt-4o": (tiktoken(GPT4O), None, False),
}
"""`tokenizer.ggml.pre` -> split, normalizer, whether words that are tokens stay whole."""


@functools.cache
def trained(pre: str) -> Backend:
    """A byte-level vocabulary of 600 tokens, split as the models of that name split."""
    split, normalizer, whole = KINDS[pre]
    backend = Backend(models.BPE(ignore_merges=whole))
    backend.pre_tokenizer, backend.decoder = split, decoders.ByteLevel()
    if normalizer:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(NASTY * 2, trainer)
    backend.add_special_tokens([token for token, kind in ADDED.items() if kind == 3])
    backend.add_tokens([token for token, kind in ADDED.items() if kind == 4])
    return backend


def stored(backend: Backend, pre: str, **changes: Any) -> dict[str, Any]:
    """What the converter writes about a vocabulary, and two ids that only fill the embedding."""
    state = json.loads(backend.to_str())
    tokens = [backend.id_to_token(i) for i in range(backend.get_vocab_size())]
    types = [ADDED.get(token, 1) for token in tokens]
    return ggml(
        **{
            "model": "gpt2",
            "pre": pre,
            "tokens": [*tokens, "[PAD998]", "[PAD999]"],
            "token_type": [*types, 5, 5],
            "merges": [" ".join(merge) for merge in state["model"]["merges"]],
            "add_bos_token": False,
        }
        | changes
    )


@pytest.mark.parametrize("pre", KINDS)
def test_byte_level_ids_are_those_of_hugging_face(tmp_path, pre):
    theirs = trained(pre)
    ours = opened(tmp_path, stored(theirs, pre))
    split = Backend.from_file(str(tmp_path / "tokenizer.json")).pre_tokenizer
    for text in texts():
        assert split.pre_tokenize_str(text) == theirs.pre_tokenizer.pre_tokenize_str(text), text
        assert ours.encode(text) == theirs.encode(text).ids, text
        if pre not in ("olmo", "qwen2"):
            assert ours.decode(ours.encode(text)) == text
    assert ours.vocabulary()[-2:] == [b"", b""]


def test_splits_tell_the_kinds_apart():
    """The rules differ on the corpus: no kind passes with another's rule."""
    cuts = {
        pre: [part for text in NASTY for part, _ in split.pre_tokenize_str(text)]
        for pre, (split, _, _) in KINDS.items()
    }
    distinct = ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o"]
    assert len({tuple(cuts[pre]) for pre in distinct}) == len(distinct)


def test_a_word_that_is_a_token_stays_whole(tmp_path):
    fields = ggml(model="gpt2", tokens=["a", "b", "c", "ab", "abc"], merges=["a b"])
    whole = opened(tmp_path, fields | ggml(pre="llama-bpe", add_bos_token=False))
    assert whole.encode("abc") == [4]
    assert opened(tmp_path, fields | ggml(pre="dbrx")).encode("abc") == [3, 2]


def test_unicode_is_composed_where_the_model_composes_it(tmp_path):
    for pre, same in (("qwen2", True), ("olmo", True), ("gpt-2", False)):
        ours = opened(tmp_path, stored(trained(pre), pre))
        assert (ours.encode("e\u0301") == ours.encode("é")) is same


@pytest.mark.parametrize(
    ("pre", "given", "begins"),
    [
        ("llama-bpe", None, True),
        ("tekken", None, True),
        ("gpt-2", None, False),
        ("gpt-2", True, True),
        ("llama-bpe", False, False),
    ],
)
def test_a_text_begins_with_bos_as_the_file_or_its_kind_says(tmp_path, pre, given, begins):
    fields = stored(trained(pre), pre, bos_token_id=0)
    ours = opened(
        tmp_path, {k: v for k, v in fields.items() if "add_bos" not in k} | _bos_flag(given)
    )
    assert (ours.encode("a")[0] == 0) is begins
    assert ours.specials.prefix_ids == ((0,) if begins else ())


def _bos_flag(given: bool | None) -> dict[str, Any]:
    return {} if given is None else ggml(add_bos_token=given)


# SentencePiece


@functools.cache
def learnt() -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types: <unk>, <s>, </s>, the bytes, then joined pieces by rank, none of
    them a run of spaces, then characters."""
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=1, show_progress=False)
    single = [" " + re.sub(r"(\s)\s+", r"\1", text) for text in NASTY[:5] + NASTY[8:12]]
    backend.train_from_iterator(single * 2, trainer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    joined = list(dict.fromkeys(left + right for left, right in merges))
    singles = sorted(token for token in backend.get_vocab() if len(token) == 1)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *joined, *singles]
    ranked = len(joined) + len(singles)
    return (
        tokens,
        [0.0] * 259 + [-float(rank) for rank in range(ranked)],
        [2, 3, 3] + [6] * 256 + [1] * ranked,
    )


def pieces(*added: tuple[str, int], **changes: Any) -> dict[str, Any]:
    """What the converter writes about a SentencePiece vocabulary with added tokens."""
    tokens, scores, types = learnt()
    return ggml(
        **{
            "model": "llama",
            "pre": "default",
            "tokens": tokens + [token for token, _ in added],
            "scores": scores + [-1000.0] * len(added),
            "token_type": types + [kind for _, kind in added],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "unknown_token_id": 0,
        }
        | changes
    )


def joined_by_score(text: str) -> list[int]:
    """SentencePiece's rule: the neighbours whose piece scores best are joined, the left ones first;
    a character without a piece becomes its bytes."""
    tokens, scores, types = learnt()
    every = zip(tokens, scores, types, strict=True)
    score = {token: worth for token, worth, kind in every if kind == 1}
    parts = list(text.replace(" ", "▁"))
    while True:
        found = [
            (score[left + right], -i)
            for i, (left, right) in enumerate(itertools.pairwise(parts))
            if left + right in score
        ]
        if not found:
            break
        at = -max(found)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    ids = {token: number for number, token in enumerate(tokens)}
    return [
        token
        for part in parts
        for token in ([ids[part]] if part in score else [3 + byte for byte in part.encode()])
    ]


@pytest.mark.parametrize("space", [True, False])
def test_ids_are_those_of_sentencepiece(tmp_path, space):
    ours = opened(tmp_path, pieces(add_space_prefix=space))
    for text in texts():
        text = text.replace("<s>", "")
        assert ours.encode(text) == [1, *joined_by_score(" " * space + text)], text
        assert ours.decode(ours.encode(text)[1:]) == " " * space + text.replace("▁", " ")


def test_a_space_stands_in_front_of_each_text_between_special_tokens(tmp_path):
    ours = opened(tmp_path, pieces(("<|user|>", 3)))
    user = len(learnt()[0])
    expected = [1, *joined_by_score(" a"), user, *joined_by_score(" b"), 2, *joined_by_score("  c")]
    assert ours.encode("a<|user|>b</s> c") == expected


def test_special_tokens_of_phi_3_take_the_space_after_them(tmp_path):
    phi = pieces(("<|user|>", 3)) | {"general.architecture": "phi3"}
    ours, user = opened(tmp_path, phi), len(learnt()[0])
    expected = [user, *joined_by_score(" a"), 1, *joined_by_score("  a")]
    assert ours.encode("<|user|>\n a<s> a")[1:] == expected


RUNS = (("  ", 4), ("   ", 4), ("\n\n", 4), ("<|user|>", 3), ("<tag>", 4))
"""Added tokens as the converter writes Gemma's: `▁▁` has become two spaces."""


def test_ids_are_those_of_hugging_face_s_gemma(tmp_path):
    from transformers import AddedToken, GemmaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    tokens, scores, _ = learnt()
    added = [token.replace(" ", "▁") for token, _ in RUNS]
    ids = {token: number for number, token in enumerate([*tokens, *added])}
    merges = generate_merges(ids, dict(zip([*tokens, *added], [*scores, *[0.0] * 5], strict=True)))
    theirs = GemmaTokenizer(
        ids, merges, bos_token="<s>", eos_token="</s>", pad_token="<unk>", mask_token="<unk>"
    )
    theirs.add_tokens([AddedToken(token, normalized=False) for token in added])
    ours = opened(tmp_path, pieces(*RUNS, add_space_prefix=False))
    for text in [*texts(), "a   b  c     d" + " " * 31, "x<tag> <|user|>\n\n\n<tag"]:
        plain = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False) == plain, text
    assert ours.token_bytes(ids["▁▁▁"]) == b"   "


def test_merges_in_the_file_are_taken_as_they_are(tmp_path):
    tokens = ["<unk>", "a", "b", "c", "ab", "bc"]
    fields = ggml(model="llama", tokens=tokens, token_type=[2, 1, 1, 1, 1, 1])
    fields |= ggml(scores=[0.0, -9.0, -9.0, -9.0, -1.0, -2.0], add_bos_token=False)
    fields |= ggml(add_space_prefix=False)
    assert opened(tmp_path, fields).encode("abc") == [4, 3]
    assert opened(tmp_path, fields | ggml(merges=["b c", "a b"])).encode("abc") == [1, 5]


def test_an_end_token_of_the_file_is_not_put_behind_a_prompt(tmp_path):
    ours = opened(tmp_path, pieces(add_eos_token=True))
    assert ours.encode("a") == [1, *joined_by_score(" a")]
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    assert backend.encode("a").ids[-1] == 2


def test_settings(tmp_path):
    fields = pieces(padding_token_id=0) | {"tokenizer.chat_template": "{{ messages }}"}
    assert tokenizer_files(fields, context=64)["tokenizer_config.json"] == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "add_bos_token": True,
        "add_prefix_space": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 64,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{{ messages }}",
    }


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scores": [0.0]}, CheckpointError, "tokens and 1 scores"),
        ({"scores": [-1000.0] * len(learnt()[0])}, UnsupportedModel, "score -1000.0"),
        ({"pre": "gpt-2"}, UnsupportedModel, "`tokenizer.ggml.pre` = 'gpt-2'"),
        ({"remove_extra_whitespaces": True}, UnsupportedModel, "`tokenizer.ggml.remove_extra_"),
        ({"precompiled_charsmap": [1]}, UnsupportedModel, "`tokenizer.ggml.precompiled_charsmap`"),
        ({"model": "gpt2", "merges": ["a b"]}, UnsupportedModel, "`tokenizer.ggml.pre` 'default'"),
        ({"model": "bert"}, UnsupportedModel, "`tokenizer.ggml.model` = 'bert'"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        tokenizer_files(pieces(**changes), context=64)
