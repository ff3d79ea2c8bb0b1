"""GGUF files -> prepared folders: what goes in comes out, and what is not handled is refused."""

from __future__ import annotations

import hashlib
import json

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from tests.models.tiny import CONFIG, FIELDS, TOKENS, neighbours, tensors, write_gguf
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models import load
from toolkit.models.gguf import prepare, read_gguf, reader
from toolkit.models.gguf.names import NAMES, half_split, head_by_head
from toolkit.models.prepared import check
from toolkit.models.safetensors import read_safetensors

BLOCKS = "F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K TQ2_0 IQ4_NL IQ4_XS".split()


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


def test_head_by_head_by_hand():
    rows = np.asarray("q0a q0b q1a q1b k0a k0b k1a k1b v0a v0b v1a v1b".split())
    expected = "q0a q0b k0a k0b v0a v0b q1a q1b k1a k1b v1a v1b".split()
    assert head_by_head(rows, heads=2).tolist() == expected


@pytest.mark.parametrize(
    ("kind", "name", "full"),
    [
        ("llama", "blk.12.ffn_up.bias", "model.layers.12.mlp.up_proj.bias"),
        ("llama", "output.weight", "lm_head.weight"),
        ("llama", "rope_freqs.weight", "rope_freqs.weight"),
        ("llama", "blk.0.attn_rot_embd.weight", "blk.0.attn_rot_embd.weight"),
        ("llama", "blk.0.ffn_gate.3.weight", "blk.0.ffn_gate.3.weight"),
        (
            "mixtral",
            "blk.0.ffn_gate.3.weight",
            "model.layers.0.block_sparse_moe.experts.3.w1.weight",
        ),
        ("gpt_neox", "output.weight", "embed_out.weight"),
    ],
)
def test_names(kind, name, full):
    assert NAMES[kind].full(name) == full


def test_weights_come_back_exactly_from_float32(made):
    weights = read_safetensors(made() / "model.safetensors")
    assert weights.keys() == tensors().keys()
    for name, tensor in tensors().items():
        np.testing.assert_array_equal(weights[name], tensor, err_msg=name)


def blocks(kind: gguf.GGMLQuantizationType, values: np.ndarray) -> np.ndarray:
    """Values in blocks; where `gguf` cannot make them, blocks of random bytes whose scales, which
    are halves, are small."""
    try:
        return quantize(values, kind)
    except NotImplementedError:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        random = np.random.default_rng(values.size)
        made = random.integers(0, 256, (values.size // elements, size), np.uint8)
        scale = np.asarray([0.0078125], np.float16).view(np.uint8)
        for at in SCALES[kind.name]:
            made[:, at : at + 2] = scale
        return made.reshape(*values.shape[:-1], -1)


SCALES = {
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Block type -> the bytes where a half begins that all numbers of a block are multiplied with."""


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_block_type_becomes_the_numbers_that_it_stands_for(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(reader, "_AT_ONCE", 2 * 512)
    block = gguf.GGMLQuantizationType[kind]
    values = np.random.default_rng(0).normal(0, 0.125, (3, 5, 512)).astype(np.float32)
    stored = blocks(block, values)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writer.add_tensor("experts", stored, raw_dtype=block)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = read_gguf(tmp_path / "one.gguf").tensors["experts"]
    expected = dequantize(stored, block)
    assert (tensor.kind, tensor.shape) == (kind, (3, 5, 512))
    assert np.isfinite(expected).all() and np.ptp(expected) > 0.1
    np.testing.assert_array_equal(tensor.values(), expected)
    np.testing.assert_array_equal(tensor.values(1), expected[1])


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1"])
def test_a_model_in_blocks(made, kind):
    given, block = tensors(), gguf.GGMLQuantizationType[kind]
    weights = read_safetensors(made(given, kind=kind) / "model.safetensors")
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


def test_what_ends_a_turn_ends_a_completion(made):
    ends = {"tokenizer.ggml.eot_token_id": 10, "tokenizer.ggml.eom_token_id": 0}
    assert read(made(**ends) / "generation_config.json")["eos_token_id"] == [0, 10]


def test_a_file_without_output_weight_has_a_tied_head(made):
    folder = made(tensors(tie_word_embeddings=True), **{"llama.rope.freq_base": 100_000.0})
    assert read(folder / "config.json")["rope_theta"] == 100_000.0
    assert load(folder).head is None


def test_frequencies_that_are_all_divided_by_one_are_not_scaled(made):
    folder = made(tensors() | {"rope_freqs.weight": np.ones(8, np.float32)})
    assert "rope_scaling" not in read(folder / "config.json")


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


def test_a_file_without_a_vocabulary_has_no_tokenizer(made):
    folder = made(**{name: None for name in FIELDS if name.startswith("tokenizer.")})
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "generation_config.json", "manifest.json", "model.safetensors")
    ]


FACTORS = {"rope_factors_short.weight": np.ones(8, np.float32)}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architecture": "qwen2moe"}, "`general.architecture` 'qwen2moe'"),
        ({"architecture": "gemma4"}, "The nearest is 'gemma3'"),
        ({"general.type": "adapter"}, "`general.type` 'adapter'"),
        ({"tokenizer.ggml.model": "t5"}, "`tokenizer.ggml.model` = 't5'"),
        ({"tokenizer.ggml.new_rule": 1}, "`tokenizer.ggml.new_rule` = 1"),
        ({"llama.rope.scaling.type": "longrope"}, "`llama.rope.scaling.type` = 'longrope'"),
        ({"llama.rope.scaling.factor": 4.0}, "`llama.rope.scaling.factor` = 4.0"),
        ({"llama.rope.scale_linear": 4.0}, "`llama.rope.scale_linear` = 4.0"),
        ({"llama.expert_used_count": 2}, "`llama.expert_used_count` = 2"),
        ({"llama.attention.sliding_window": 4096}, "`llama.attention.sliding_window` = 4096"),
        ({"llama.attention.causal": False}, "`llama.attention.causal` = False"),
        ({"llama.rope.dimension_count": 8}, "`llama.rope.dimension_count` = 8"),
        ({"split.count": 2}, "`split.count` 2"),
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
        ({"weights": tensors() | FACTORS}, "1 surplus: rope_factors_short.weight"),
        ({"llama.rope.scaling.type": "yarn"}, "has no `llama.rope.scaling.factor`"),
        ({"tokenizer.ggml.tokens": TOKENS[:10]}, "10 tokens and 11 token types"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:10], "a"]}, "lists a token twice"),
        ({"tokenizer.ggml.eos_token_id": 11}, "names token 11 of a vocabulary of 11"),
        ({"tokenizer.ggml.merges": None}, "has no `tokenizer.ggml.merges`"),
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
