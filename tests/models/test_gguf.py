"""GGUF files -> prepared folders."""

from __future__ import annotations

import hashlib
import json

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer

from tests.models.tiny import CONFIG, FIELDS, TOKENS, neighbours, tensors, write_gguf
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models import load
from toolkit.models.gguf import prepare, read_gguf
from toolkit.models.gguf.convert import half_split, hugging_face_name
from toolkit.models.prepared import check
from toolkit.models.safetensors import read_safetensors


@pytest.fixture
def made(tmp_path):
    """`made(**changes)`: the prepared folder of a tiny GGUF file with those changes."""

    def make(weights=None, **changes):
        folder = tmp_path / "prepared"
        folder.mkdir()
        prepare(write_gguf(tmp_path / "tiny.gguf", weights, **changes), folder)
        return folder

    return make


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_half_split_by_hand():
    rows = np.asarray([["a"], ["c"], ["b"], ["d"], ["e"], ["g"], ["f"], ["h"]])
    assert "".join(half_split(rows, heads=2)[:, 0]) == "abcdefgh"
    numbers = np.arange(64 * 3).reshape(64, 3)
    np.testing.assert_array_equal(half_split(neighbours(numbers, 4), 4), numbers)


def test_names():
    assert hugging_face_name("blk.12.ffn_up.bias") == "model.layers.12.mlp.up_proj.bias"
    assert hugging_face_name("output.weight") == "lm_head.weight"
    assert hugging_face_name("rope_freqs.weight") == "rope_freqs.weight"


def test_weights_come_back_exactly_from_float32(made):
    weights = read_safetensors(made() / "model.safetensors")
    assert weights.keys() == tensors().keys()
    for name, tensor in tensors().items():
        np.testing.assert_array_equal(weights[name], tensor, err_msg=name)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_1", "TQ2_0"])
def test_every_block_type_becomes_the_numbers_that_it_stands_for(made, kind):
    # Blocks of TQ2_0 hold 256 numbers.
    shape = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 256}
    fields = {
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 256,
        "llama.rope.dimension_count": 64,
    }
    given, block = tensors(**shape), gguf.GGMLQuantizationType[kind]
    weights = read_safetensors(made(given, kind=kind, **fields) / "model.safetensors")
    for name in ("lm_head.weight", "model.layers.1.self_attn.k_proj.weight"):
        expected = dequantize(quantize(given[name], block), block)
        np.testing.assert_array_equal(weights[name], expected, err_msg=name)
    np.testing.assert_array_equal(weights["model.norm.weight"], given["model.norm.weight"])


def test_config(made):
    folder = made()
    expected = CONFIG | {"torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 0}
    assert read(folder / "config.json") == expected
    assert read(folder / "generation_config.json") == {"bos_token_id": 1, "eos_token_id": 0}
    assert load(folder).config.head_width == 16


def test_a_file_without_output_weight_has_a_tied_head(made):
    folder = made(tensors(tie_word_embeddings=True), **{"llama.rope.freq_base": 100_000.0})
    assert read(folder / "config.json")["rope_theta"] == 100_000.0
    assert load(folder).head is None


def test_manifest(made, tmp_path):
    folder = made()
    manifest = read(folder / "manifest.json")
    source = (tmp_path / "tiny.gguf").read_bytes()
    assert manifest["source"] == {
        "file": "tiny.gguf",
        "bytes": len(source),
        "sha256": hashlib.sha256(source).hexdigest(),
    }
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for name, entry in manifest["files"].items():
        contents = (folder / name).read_bytes()
        assert entry == {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    check(folder, verify=True)


def test_progress_is_told_for_each_tensor(tmp_path):
    told = []
    (tmp_path / "prepared").mkdir()
    source = write_gguf(tmp_path / "tiny.gguf")
    prepare(source, tmp_path / "prepared", tick=lambda done, total: told.append((done, total)))
    assert told == [(done, 21) for done in range(22)]


def test_tokenizer(made):
    folder = made()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Digits stand alone, although 1 and 2 have a merge; special tokens are cut out first.
    assert tokenizer.encode("ab ab12<tool>a<|end|>").tokens == [
        *("ab", "Ġab", "1", "2", "<tool>", "a", "<|end|>")
    ]
    assert tokenizer.decode([7, 8, 5, 10, 0]) == "ab ab1<tool>"
    assert read(folder / "tokenizer_config.json") == {
        "bos_token": "<|start|>",
        "eos_token": "<|end|>",
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 128,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{{ messages }}",
    }


def test_gpt_2_does_not_split_digits(made):
    folder = made(**{"tokenizer.ggml.pre": "gpt-2"})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("ab12").tokens == ["ab", "12"]


def test_a_begin_token_is_added_if_the_file_says_so(made):
    folder = made(**{"tokenizer.ggml.add_bos_token": True})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("a").ids == [1, 2]
    assert tokenizer.encode("a", add_special_tokens=False).ids == [2]
    assert read(folder / "tokenizer_config.json")["add_bos_token"] is True


def test_a_file_without_a_vocabulary_has_no_tokenizer(made):
    folder = made(**{name: None for name in FIELDS if name.startswith("tokenizer.")})
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "generation_config.json", "manifest.json", "model.safetensors")
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architecture": "qwen2"}, "`general.architecture` 'qwen2'"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "`tokenizer.ggml.pre` 'llama-bpe'"),
        ({"tokenizer.ggml.pre": None}, "`tokenizer.ggml.pre` 'default'"),
        ({"tokenizer.ggml.model": "llama"}, "`tokenizer.ggml.model` = 'llama'"),
        ({"tokenizer.ggml.add_space_prefix": True}, "`tokenizer.ggml.add_space_prefix`"),
        ({"tokenizer.ggml.new_rule": 1}, "`tokenizer.ggml.new_rule` = 1"),
        ({"llama.rope.scaling.type": "yarn"}, "`llama.rope.scaling.type` = 'yarn'"),
        ({"llama.expert_count": 8}, "`llama.expert_count` = 8"),
        ({"llama.attention.sliding_window": 4096}, "`llama.attention.sliding_window` = 4096"),
        ({"llama.rope.dimension_count": 8}, "`llama.rope.dimension_count` = 8"),
        ({"split.count": 2}, "`split.count` 2"),
        ({"weights": {"rope_freqs.weight": np.ones(8, np.float32)}}, "rope_freqs.weight"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(made, changes, named):
    with pytest.raises(UnsupportedModel) as caught:
        made(**changes)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": None}, "has no `llama.block_count`"),
        ({"llama.block_count": 3}, "9 missing: model.layers.2"),
        ({"llama.block_count": 1}, "9 surplus: model.layers.1"),
        ({"llama.feed_forward_length": 64}, "gate_proj.weight is [96, 64], not [64, 64]"),
        ({"tokenizer.ggml.tokens": TOKENS[:10]}, "10 tokens and 11 token types"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:10], "a"]}, "lists a token twice"),
        ({"tokenizer.ggml.eos_token_id": 11}, "names token 11 of a vocabulary of 11"),
    ],
)
def test_contradictions(made, changes, message):
    with pytest.raises(CheckpointError) as caught:
        made(**changes)
    assert message in caught.value.message


def test_files_that_are_no_gguf_or_cut_short(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is no GGUF file"):
        read_gguf(path)
    for kept in (6, 30, 200, 900, len(whole) - 400):
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            read_gguf(path)
    path.write_bytes(whole[:4] + (3).to_bytes(4, "big") + whole[8:])
    with pytest.raises(UnsupportedModel, match="the other byte order"):
        read_gguf(path)


def test_a_block_type_without_numbers_is_refused_by_name(tmp_path):
    tensor = read_gguf(write_gguf(tmp_path / "tiny.gguf")).tensors["output.weight"]
    object.__setattr__(tensor, "kind", "Q8_1")
    with pytest.raises(UnsupportedModel, match=r"`output.weight` has block type Q8_1"):
        tensor.values()
