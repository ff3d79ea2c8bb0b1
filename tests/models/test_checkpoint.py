"""Folders of safetensors -> decoders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save, save_file

from tests.models.tiny import CONFIG, tensors, write_folder
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models import KVCache, load
from toolkit.models.checkpoint import load_config, read_weights
from toolkit.models.families import read_config, weight_parts
from toolkit.models.safetensors import read_safetensors, write_safetensors

BLOCK = "model.layers.1"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(tmp_path):
    return write_folder(tmp_path / "tiny")


def shard(folder, names):
    """Move the tensors `names` of model.safetensors to a second shard, with an index."""
    whole = tensors()
    parts = {
        "model-00001-of-00002.safetensors": {n: t for n, t in whole.items() if n not in names},
        "model-00002-of-00002.safetensors": {n: whole[n] for n in names},
    }
    for file, part in parts.items():
        save_file(part, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "model.safetensors").unlink()


def leaves(decoder):
    flat = nnx.to_flat_state(nnx.state(decoder))
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def test_every_leaf_is_filled_from_its_parts(tiny):
    theirs, ours = tensors(), leaves(load(tiny))
    q, k, v = (theirs[f"{BLOCK}.self_attn.{x}_proj.weight"] for x in "qkv")
    np.testing.assert_array_equal(ours["blocks.1.qkv.kernel"], np.concatenate([q, k, v]))
    np.testing.assert_array_equal(
        ours["blocks.1.gate_up.kernel"][96:], theirs[f"{BLOCK}.mlp.up_proj.weight"]
    )
    np.testing.assert_array_equal(
        ours["blocks.1.down.kernel"], theirs[f"{BLOCK}.mlp.down_proj.weight"]
    )
    np.testing.assert_array_equal(
        ours["blocks.0.mlp_norm.scale"], theirs["model.layers.0.post_attention_layernorm.weight"]
    )
    np.testing.assert_array_equal(ours["embedding"], theirs["model.embed_tokens.weight"])
    np.testing.assert_array_equal(ours["head.kernel"], theirs["lm_head.weight"])
    assert len(ours) == 3 + 2 * 6


def test_biases_are_filled(tmp_path):
    weights = tensors()
    for name in list(weights):
        if "_proj" in name:
            weights[name.replace("weight", "bias")] = weights[name][:, 0].copy()
    folder = write_folder(tmp_path, weights, attention_bias=True, mlp_bias=True)
    ours = leaves(load(folder))
    np.testing.assert_array_equal(ours["blocks.0.qkv.bias"], ours["blocks.0.qkv.kernel"][:, 0])
    np.testing.assert_array_equal(ours["blocks.1.down.bias"], ours["blocks.1.down.kernel"][:, 0])


def test_shards_give_the_same_leaves(tiny):
    whole = read_weights(tiny, load_config(tiny), np.float32)
    shard(tiny, ["lm_head.weight", f"{BLOCK}.self_attn.k_proj.weight"])
    parts = read_weights(tiny, load_config(tiny), np.float32)
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize("stored", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("wanted", [jnp.float32, jnp.bfloat16])
def test_element_types(tmp_path, stored, wanted):
    narrow = {name: t.astype(stored) for name, t in tensors().items()}
    decoder = load(write_folder(tmp_path, narrow), dtype=wanted)
    expected = narrow["model.embed_tokens.weight"].astype(np.dtype(wanted))
    assert decoder.embedding[...].dtype == wanted
    np.testing.assert_array_equal(np.asarray(decoder.embedding[...]), expected)


def test_the_decoder_does_not_need_the_file_any_more(tiny):
    decoder = load(tiny)
    (tiny / "model.safetensors").write_bytes(b"")
    np.testing.assert_array_equal(decoder.embedding[...], tensors()["model.embed_tokens.weight"])


def test_misfits_are_listed_together(tmp_path):
    weights = tensors()
    del weights["model.norm.weight"]
    weights[f"{BLOCK}.self_attn.q_norm.weight"] = np.ones(16, np.float32)
    weights["lm_head.weight"] = weights["lm_head.weight"].T.copy()
    with pytest.raises(CheckpointError) as caught:
        load(write_folder(tmp_path, weights))
    assert (
        "1 missing: model.norm.weight; 1 surplus: model.layers.1.self_attn.q_norm.weight; "
        "1 misshaped: lm_head.weight is [64, 11], not [11, 64]." in caught.value.message
    )


def test_long_lists_are_cut(tmp_path):
    with pytest.raises(CheckpointError, match=r"20 missing: .* and 15 more"):
        load(write_folder(tmp_path, {"lm_head.weight": tensors()["lm_head.weight"]}))


def test_rotary_buffers_of_old_checkpoints_are_left_out(tmp_path):
    buffers = {f"{BLOCK}.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    load(write_folder(tmp_path, tensors() | buffers))


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path):
    weights = tensors(tie_word_embeddings=True)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert load(write_folder(tmp_path, weights, tie_word_embeddings=True)).head is None
    weights["lm_head.weight"] = weights["lm_head.weight"] + np.float32(1)
    with pytest.raises(CheckpointError, match="ties the head to the embedding"):
        load(write_folder(tmp_path, weights, tie_word_embeddings=True))


def test_bin_files_are_refused_with_the_way_out(tiny):
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=r"pytorch_model.bin.*save_pretrained"):
        load(tiny)


def test_absent_files(tiny):
    (tiny / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"neither model.safetensors nor model.safetensors.index"
    ):
        load(tiny)
    (tiny / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        load(tiny)


def test_a_config_that_is_no_json(tiny):
    (tiny / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        load(tiny)
    (tiny / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"must hold a JSON object, got list"):
        load(tiny)


def test_broken_shards(tiny):
    shard(tiny, ["lm_head.weight"])
    index = tiny / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": places | {"x": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"lack tensors that .* promises: x"):
        load(tiny)
    index.write_text(json.dumps({"weight_map": places | {"x": "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="points out of its folder"):
        load(tiny)
    index.write_text(json.dumps({"weight_map": [1]}))
    with pytest.raises(CheckpointError, match="no usable `weight_map`"):
        load(tiny)
    index.write_text(json.dumps({"weight_map": places}))
    (tiny / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks 1 of 2 shards: model-00002-of-00002"):
        load(tiny)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
def test_a_file_that_is_cut_short(tiny, kept):
    path = tiny / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else int(kept)])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        load(tiny)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"[]", CheckpointError),
        (b"{}}", CheckpointError),
        (b'{"x": {"dtype": "F32"}}', CheckpointError),
        (b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', CheckpointError),
        (b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', CheckpointError),
        (b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}', UnsupportedModel),
    ],
)
def test_bad_headers(tmp_path, header, error):
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(error):
        read_safetensors(path)


def test_what_is_written_is_what_the_safetensors_package_reads(tmp_path):
    made = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(5, np.float32)}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {name: t.shape for name, t in made.items()}, iter(made.values()))
    from safetensors.numpy import load_file

    again, ours = load_file(path), read_safetensors(path)
    for name, tensor in made.items():
        np.testing.assert_array_equal(again[name], tensor)
        np.testing.assert_array_equal(ours[name], tensor)
    assert len(save(made)) <= path.stat().st_size


def test_the_embedded_model_knows_the_capital_of_france(folder):
    decoder = load(folder)
    assert decoder.config.layers == 30
    tokens = jnp.asarray([[504, 3575, 282, 4649, 314]], jnp.int32)  # "The capital of France is"
    cache = KVCache.zeros(decoder.config, rows=1, slots=8, dtype=jnp.dtype(jnp.float32))
    hidden, _ = decoder(tokens, jnp.zeros(1, jnp.int32), cache)
    assert int(jnp.argmax(decoder.logits(hidden[0, -1]))) == 7042  # " Paris"


MEASURE = """
import re, sys
import jax, jax.numpy as jnp
from toolkit.models import load
import toolkit.models.checkpoint, toolkit.models.decoder

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

jax.devices()
before = peak()
decoder = load(sys.argv[1], dtype=jnp.bfloat16)
size = sum(x.nbytes for x in jax.tree.leaves(toolkit.models.checkpoint.nnx.state(decoder)))
print(size, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is Linux's")
def test_a_sharded_checkpoint_loads_without_a_second_copy(tmp_path):
    """350 MB of bfloat16 in four shards: the peak stays under 1.3 times the weights."""
    sizes: dict[str, Any] = {
        "vocab_size": 32_000,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 7,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
    }
    parts = weight_parts(read_config(CONFIG | sizes))
    shapes = {part.name: part.shape for group in parts.values() for part in group}
    places, names = {}, list(shapes)
    for number in range(4):
        file = f"model-{number + 1:05}-of-00004.safetensors"
        chosen = names[number::4]
        random = np.random.default_rng(number)
        drawn = {n: random.standard_normal(shapes[n], np.float32) for n in chosen}
        save_file({n: t.astype(ml_dtypes.bfloat16) for n, t in drawn.items()}, tmp_path / file)
        places |= dict.fromkeys(chosen, file)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | sizes))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    size, grown = map(int, subprocess.check_output(command, cwd=ROOT).split())
    assert size == 2 * sum(int(np.prod(shape)) for shape in shapes.values()) > 250_000_000
    assert grown < 1.3 * size
