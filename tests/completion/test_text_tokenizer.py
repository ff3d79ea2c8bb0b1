"""Ids of a text and bytes of an id, on small vocabularies made here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

from tests.oracle.text import offsets
from toolkit.completion.text import Fim, Specials, Tokenizer
from toolkit.errors import CheckpointError, InvalidRequest, UnsupportedModel

NASTY = [
    "Hello, world! It's 12345.",
    "😀🎉 👩\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f",
    "مرحبا بالعالم ١٢٣",
    "\x00\x01\x1b[0m\x7f\x85\u2028\u2029\ufeff",
    "a    b\n\n\n   c\t\t d  \r\n",
    "<|im_start|>user\nhi<|im_end|> x<|endoftext|>y",
    "<|im_start",
    "日本語テキスト e\u0301 é ﬁ ½",
    "\U0010ffff\u200b\u00a0",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROCKET = "🚀".encode()


def byte_level() -> Backend:
    """0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, 3..258 the bytes, then merges; lone digits."""
    backend = Backend(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=1,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["Hello hello world world user it's مرحبا é   \n\n"] * 3, trainer)
    return backend


def sentencepiece(*extra: str) -> Backend:
    """0 <unk>, 1 <s>, 2 </s>, 3..258 bytes, 259 ▁, 260 h, 261 i, 262 ▁h, 263 ▁hi, then `extra`."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    pieces += ["▁", "h", "i", "▁h", "▁hi", *extra]
    model = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[("▁", "h"), ("▁h", "i")],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    strip = decoders.Strip(content=" ", left=1, right=0)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return backend


def write(folder: Path, backend: Backend | None, **files: dict[str, Any]) -> Path:
    if backend is not None:
        backend.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def load(
    folder: Path, backend: Backend | None, *, vocab_size: int = 400, **files: Any
) -> Tokenizer:
    return Tokenizer.from_folder(write(folder, backend, **files), vocab_size=vocab_size)


SMOL: dict[str, Any] = {
    "tokenizer_config": {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    "config": {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2},
}


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(tmp_path_factory.mktemp("smol"), byte_level(), vocab_size=410, **SMOL)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
    folder = tmp_path_factory.mktemp("llama")
    return load(folder, sentencepiece(), vocab_size=264, tokenizer_config=named)


# Text to ids


@pytest.mark.parametrize(("make", "bos"), [(byte_level, "<|im_start|>"), (sentencepiece, "<s>")])
def test_ids_are_those_of_transformers(tmp_path: Path, make, bos):
    from transformers import AutoTokenizer

    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos}
    ours = load(tmp_path, make(), tokenizer_config=settings)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in NASTY:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        plain = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False) == plain, text


@given(text=TEXT)
def test_bytes_of_the_ids_are_the_bytes_of_the_text(smol: Tokenizer, text: str):
    ids = smol.encode(text) if text else []
    assert b"".join(map(smol.token_bytes, ids)) == text.encode()
    assert smol.decode(ids) == text


@given(text=TEXT)
def test_a_sentencepiece_text_reads_with_its_space_in_front(llama: Tokenizer, text: str):
    ids = llama.encode(text)[1:]
    assert llama.decode(ids) == (" " + text.replace("▁", " ") if text else "")


def test_case_5_empty_text_is_the_start_of_a_document(smol: Tokenizer, llama: Tokenizer):
    assert smol.encode("") == [1] and smol.encode_prompt("") == ([1], 1)
    assert llama.encode("") == llama.encode("", add_special_tokens=False) == [1]


@pytest.mark.parametrize(
    ("specials", "start"),
    [
        ({"bos_token": None, "eos_token": "<|im_end|>"}, 0),  # <|endoftext|> separates documents
        ({"bos_token": "<|im_start|>"}, 1),
    ],
)
def test_case_5_without_bos(tmp_path: Path, specials, start):
    tokenizer = load(tmp_path, byte_level(), tokenizer_config=specials)
    assert tokenizer.encode("") == [start]


def test_case_5_eos_starts_a_document_where_nothing_else_does(tmp_path: Path):
    eos = {"eos_token": "</s>"}
    assert load(tmp_path, sentencepiece(), tokenizer_config=eos).encode("") == [2]
    nothing = load(tmp_path, sentencepiece(), tokenizer_config={"add_bos_token": False})
    with pytest.raises(InvalidRequest, match="`prompt` is empty") as refused:
        nothing.encode("")
    assert refused.value.param == "prompt"


def test_a_continuation_has_no_space_in_front(llama: Tokenizer, smol: Tokenizer):
    assert llama.decode(llama.encode_continuation("hi")) == "hi"
    assert llama.decode(llama.encode_continuation(" hi")) == " hi"
    assert smol.encode_continuation("hi") == smol.encode("hi")


def test_bos_is_put_in_front_once(llama: Tokenizer):
    assert llama.encode_prompt("hi") == ([1, 263], 1)
    assert llama.encode_prompt("hi", add_special_tokens=False) == ([263], 0)
    assert llama.encode_prompt("<s>hi") == ([1, 263], 0)


@pytest.mark.parametrize(("explicit", "ids"), [(True, [1, 263]), (False, [263])])
def test_an_explicit_add_bos_token_wins(tmp_path: Path, explicit: bool, ids: list[int]):
    backend = sentencepiece()
    if explicit:
        backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    named = {"bos_token": "<s>", "add_bos_token": explicit}
    assert load(tmp_path, backend, tokenizer_config=named).encode("hi") == ids


def test_eos_behind_a_text_is_not_added(tmp_path: Path):
    backend = sentencepiece()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert load(tmp_path, backend).encode("hi") == [1, 263]


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path):
    backend = sentencepiece()
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    assert load(tmp_path, backend).encode("hi hi hi") == [1, 263, 263, 263]


def test_a_token_that_the_model_does_not_have_is_refused(tmp_path: Path):
    small = load(tmp_path, sentencepiece(), vocab_size=263)
    with pytest.raises(InvalidRequest, match="' hi', token 263 of the tokenizer") as refused:
        small.encode("hi")
    assert refused.value.param == "prompt"


# Ids to bytes


def test_token_bytes_of_a_byte_level_vocabulary(smol: Tokenizer):
    vocabulary = smol.vocabulary()
    assert sorted(vocabulary[3:259]) == [bytes([byte]) for byte in range(256)]
    assert vocabulary[:3] == [b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>"]
    assert b" world" in vocabulary and "é".encode() in vocabulary
    assert len(vocabulary) == 410 and vocabulary[-1] == smol.token_bytes(409) == b""
    assert smol.vocabulary() is vocabulary


def test_token_bytes_of_a_sentencepiece_vocabulary(llama: Tokenizer):
    vocabulary = llama.vocabulary()
    assert vocabulary[3:259] == [bytes([byte]) for byte in range(256)]
    assert vocabulary[:3] == [b"<unk>", b"<s>", b"</s>"]
    assert vocabulary[259:] == [b" ", b"h", b"i", b" h", b" hi"]


def test_added_tokens_are_spelt_like_the_text_that_they_match(tmp_path: Path):
    backend = byte_level()
    backend.add_tokens(["é", "   "])  # "é" would be the byte E9 if it were spelt like the others
    tokenizer = load(tmp_path, backend, vocab_size=500)
    added = [tokenizer.encode(text) for text in ("é", "   ")]
    assert [tokenizer.decode(ids) for ids in added] == ["é", "   "]
    assert [len(ids) for ids in added] == [1, 1]


def test_pieces_listed_as_added_are_spelt_like_the_others(tmp_path: Path):
    backend = sentencepiece("▁▁")
    backend.add_tokens([AddedToken("▁▁", normalized=False)])
    assert load(tmp_path, backend).token_bytes(264) == b"  "


def test_metaspace_decoder(tmp_path: Path):
    backend = Backend(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = load(tmp_path, backend, vocab_size=3)
    assert (tokenizer.encode("ab"), tokenizer.vocabulary()[1:]) == ([1, 2], [b" a", b"b"])


def test_case_64_tokens_of_a_split_character(smol: Tokenizer):
    ids = [smol.vocabulary().index(bytes([byte])) for byte in ROCKET]
    assert [smol.legacy_token(i) for i in ids] == [
        r"bytes:\xf0",
        r"bytes:\x9f",
        r"bytes:\x9a",
        r"bytes:\x80",
    ]
    assert [smol.token_str(i) for i in ids] == ["\ufffd"] * 4
    assert (smol.decode(ids), smol.decode(ids[:3])) == ("🚀", "\ufffd")
    assert smol.legacy_token(2) == smol.token_str(2) == "<|im_end|>"
    assert smol.legacy_token(409) == ""


def test_case_66_dangling_bytes_of_a_token_prompt(smol: Tokenizer):
    rocket = [smol.vocabulary().index(bytes([byte])) for byte in ROCKET]
    text = smol.encode("a world ")
    assert smol.dangling(text + rocket[:3]) == ROCKET[:3]
    assert smol.split(text + rocket[:3]) == ("a world ", ROCKET[:3])
    assert smol.dangling(text + rocket) == smol.dangling(rocket[1:]) == smol.dangling([]) == b""
    assert smol.split(rocket[1:3]) == ("\ufffd\ufffd", b"")


@given(st.lists(st.integers(0, 409), max_size=10))
def test_split_and_offsets_agree_with_decode(smol: Tokenizer, ids: list[int]):
    text, dangling = smol.split(ids)
    assert smol.decode(ids) == text + ("\ufffd" if dangling else "")
    assert smol.dangling(ids) == dangling
    ids = [i for i in ids if smol.token_bytes(i)]
    assert smol.offsets(ids) == offsets([smol.token_bytes(i) for i in ids])


# Offsets of a prompt


def test_offsets_in_the_prompt(smol: Tokenizer, llama: Tokenizer):
    text = "é world<|im_end|>🚀"
    ids = smol.encode(text)
    assert [smol.token_str(i) for i in ids[:3]] == ["é", " world", "<|im_end|>"]
    assert smol.offsets(ids, text) == smol.offsets(ids) == [0, 1, 7, 17, 17, 17, 17]
    ids = llama.encode("hi hi", add_special_tokens=False)
    assert llama.offsets(ids) == [0, 3]  # in " hi hi"
    assert llama.offsets(ids, "hi hi") == [0, 2]


def test_offsets_of_normalised_characters(tmp_path: Path):
    backend = byte_level()
    backend.normalizer = normalizers.NFKC()
    tokenizer = load(tmp_path, backend)
    ids = tokenizer.encode("ﬁ!")  # becomes "fi!"
    assert [tokenizer.token_str(i) for i in ids] == ["f", "i", "!"]
    assert tokenizer.offsets(ids, "ﬁ!") == [0, 0, 1]


# What the files declare


def test_specials_of_a_folder(smol: Tokenizer, llama: Tokenizer):
    assert (smol.bos_id, smol.eos_ids, smol.special_ids) == (1, (2,), {0, 1, 2})
    assert smol.fim is None
    assert (llama.bos_id, llama.eos_ids, llama.special_ids) == (1, (2,), {0, 1, 2})


def test_eos_of_every_file_counts_once_and_only_if_the_model_has_it(tmp_path: Path):
    tokenizer = load(
        tmp_path,
        byte_level(),
        generation_config={"eos_token_id": [0, 2, 9999]},
        config={"eos_token_id": 7, "bos_token_id": 9999},
        tokenizer_config={"eos_token": "<|im_end|>"},
    )
    assert (tokenizer.eos_ids, tokenizer.bos_id) == ((0, 2), None)


def test_tokens_declared_only_beside_the_file_are_added(tmp_path: Path):
    size = byte_level().get_vocab_size()
    entry = {"content": "<tool>", "special": True, "__type": "AddedToken"}
    declared = {"added_tokens_decoder": {str(size): entry}}
    tokenizer = load(tmp_path, byte_level(), vocab_size=size + 1, tokenizer_config=declared)
    assert tokenizer.encode("<tool>") == [size]
    assert size in tokenizer.special_ids
    wrong = {"added_tokens_decoder": {str(size + 5): entry}}
    with pytest.raises(CheckpointError, match="do not belong together"):
        load(tmp_path, byte_level(), tokenizer_config=wrong)


@pytest.mark.parametrize(
    "marks",
    [
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>"),
        ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ],
)
def test_marks_for_filling_in_the_middle(tmp_path: Path, marks):
    backend = byte_level()
    backend.add_special_tokens(list(marks))
    prefix, suffix, middle = (backend.token_to_id(mark) for mark in marks)
    tokenizer = load(tmp_path, backend, vocab_size=500)
    assert tokenizer.fim == Fim(prefix_id=prefix, suffix_id=suffix, middle_id=middle)
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    assert tokenizer.infill("a", "b") == [prefix, *a, suffix, *b, middle]
    assert tokenizer.infill("", "") == [prefix, suffix, middle]


def test_the_suffix_of_an_infill_gets_no_space(tmp_path: Path):
    backend = sentencepiece("▁<PRE>", "▁<SUF>", "▁<MID>")
    tokenizer = load(tmp_path, backend, tokenizer_config={"bos_token": "<s>"})
    assert tokenizer.infill("hi", "hi hi") == [1, 264, 263, 265, 260, 261, 263, 266]


def test_infill_without_marks_is_refused(smol: Tokenizer):
    with pytest.raises(InvalidRequest, match="`suffix` needs tokens") as refused:
        smol.infill("a", "b")
    assert refused.value.param == "suffix"


def test_fingerprint_is_the_sum_of_the_file(tmp_path: Path):
    tokenizer = load(tmp_path, byte_level())
    content = (tmp_path / "tokenizer.json").read_bytes()
    assert tokenizer.fingerprint == hashlib.sha256(content).hexdigest()


# Other folders


def test_a_folder_without_tokenizer_takes_ids_only(tmp_path: Path):
    tokenizer = load(tmp_path, None, vocab_size=20, config={"eos_token_id": 3})
    assert tokenizer.decode([17, 3]) == "<17><3>"
    assert tokenizer.vocabulary()[17] == b"<17>" and len(tokenizer.vocabulary()) == 20
    assert tokenizer.eos_ids == (3,) and tokenizer.encode("") == [3]
    with pytest.raises(InvalidRequest, match=r"`prompt` is text.*Give token ids") as refused:
        tokenizer.encode("hello")
    assert refused.value.param == "prompt"
    direct = Tokenizer.ids_only(20, eos_ids=(3,))
    assert direct.vocabulary() == tokenizer.vocabulary()
    assert direct.specials == Specials(eos_ids=(3,), start_id=3)
    assert direct.fingerprint != Tokenizer.ids_only(21, eos_ids=(3,)).fingerprint


def test_older_files_are_converted(tmp_path: Path):
    alphabet = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = alphabet | {"he": 256, "Ġhe": 257, "<|endoftext|>": 258}
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nĠ he\n")
    files = {"vocab": vocabulary, "tokenizer_config": {"tokenizer_class": "GPT2Tokenizer"}}
    tokenizer = load(tmp_path, None, vocab_size=259, **files)
    assert tokenizer.encode("he he") == [256, 257]
    assert tokenizer.vocabulary()[256:] == [b"he", b" he", b"<|endoftext|>"]


def test_files_that_cannot_be_converted_are_named(tmp_path: Path):
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.model cannot be converted"):
        load(tmp_path, None)


def test_damaged_files_are_named(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load(tmp_path, None)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        load(tmp_path, byte_level(), tokenizer_config=[])


def test_vocabularies_without_bytes_are_refused(tmp_path: Path):
    wordpiece = Backend(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    wordpiece.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedModel, match=r"decoder step.*WordPiece"):
        load(tmp_path, wordpiece)
    words = Backend(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnsupportedModel, match="'Whitespace' and no decoder"):
        load(tmp_path, words)


def test_characters_without_a_decoder_stand_for_themselves(tmp_path: Path):
    backend = Backend(models.BPE(vocab={"a": 0, "é": 1, " ": 2}, merges=[]))
    tokenizer = load(tmp_path, backend, vocab_size=3)
    assert tokenizer.decode(tokenizer.encode("a é")) == "a é"


def test_no_heavy_import_on_the_way_to_the_ids(tmp_path: Path):
    write(tmp_path, byte_level(), **SMOL)
    code = (
        "import sys; from pathlib import Path; from toolkit.completion.text import Tokenizer\n"
        "tokenizer = Tokenizer.from_folder(Path(sys.argv[1]), vocab_size=400)\n"
        "assert tokenizer.decode(tokenizer.encode('hello')) == 'hello'\n"
        "print([name for name in ('jax', 'pandas', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
