"""Where each family's weights lie: names, fused rows, transposed kernels, tied heads."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.models.test_family_logits import tiny
from tests.models.tiny_families import CASES
from toolkit.errors import CheckpointError
from toolkit.models import load
from toolkit.models.families import read_config, weight_parts
from toolkit.models.families.gpt_neox import apart


def names(case: str, leaf: str) -> list[str]:
    return [part.name for part in weight_parts(read_config(CASES[case]))[leaf]]


def test_gpt_neox_has_queries_keys_and_values_head_by_head():
    rows = np.asarray([["q0a"], ["q0b"], ["k0a"], ["k0b"], ["v0a"], ["v0b"]] + [["1"]] * 6)
    assert apart(rows, heads=2)[:, 0].tolist() == [
        *("q0a", "q0b", "1", "1"),
        *("k0a", "k0b", "1", "1"),
        *("v0a", "v0b", "1", "1"),
    ]


def test_gpt2_kernels_are_stored_the_other_way_round(tmp_path):
    decoder = tiny(tmp_path, "gpt2")
    stored = load_file(tmp_path / "model.safetensors")["transformer.h.1.attn.c_attn.weight"]
    assert stored.shape == (32, 96)
    np.testing.assert_array_equal(decoder.blocks[1].qkv.kernel[...], stored.T)


def test_phi3_has_queries_keys_and_values_in_one(tmp_path):
    assert names("phi3", "blocks.0.qkv.kernel") == ["model.layers.0.self_attn.qkv_proj.weight"]
    assert names("phi3", "blocks.0.gate_up.kernel") == ["model.layers.0.mlp.gate_up_proj.weight"]


def test_gate_and_up_of_one_expert_lie_side_by_side():
    block = "model.layers.1.block_sparse_moe"
    assert names("mixtral", "blocks.1.mixture.gate_up")[:3] == [
        f"{block}.experts.0.w1.weight",
        f"{block}.experts.0.w3.weight",
        f"{block}.experts.1.w1.weight",
    ]
    assert names("mixtral", "blocks.1.mixture.router.kernel") == [f"{block}.gate.weight"]


def test_only_sparse_layers_have_experts():
    parts = weight_parts(read_config(CASES["qwen3_moe-mixed"]))
    assert "blocks.0.gate_up.kernel" in parts
    assert "blocks.0.mixture.gate_up" not in parts
    assert "blocks.1.mixture.gate_up" in parts


def rewritten(folder, change):
    """The folder's tensors under other names."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file)
    return folder


def test_the_first_gpt2_files_lack_the_prefix_and_carry_masks(tmp_path):
    expected = tiny(tmp_path, "gpt2").blocks[0].qkv.kernel[...]

    def old(tensors):
        bare = {name.removeprefix("transformer."): t for name, t in tensors.items()}
        return bare | {"h.0.attn.bias": np.ones((1, 1, 64, 64), np.float32)}

    again = load(rewritten(tmp_path, old)).blocks[0].qkv.kernel[...]
    np.testing.assert_array_equal(again, expected)


def test_pythia_files_carry_masks_and_either_name_of_the_head(tmp_path):
    expected = tiny(tmp_path, "gpt_neox").head.kernel[...]

    def other(tensors):
        layer = "gpt_neox.layers.0.attention"
        tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
        return tensors | {
            f"{layer}.bias": np.ones((1, 1, 64, 64), np.float32),
            f"{layer}.masked_bias": np.ones(1, np.float32),
            f"{layer}.rotary_emb.inv_freq": np.ones(2, np.float32),
        }

    np.testing.assert_array_equal(load(rewritten(tmp_path, other)).head.kernel[...], expected)


@pytest.mark.parametrize(
    "name", ["gemma2", "gemma3_text", "gpt2", "smollm3-window", "phi3-partial"]
)
def test_a_tied_head_is_the_embedding(name, tmp_path):
    decoder = tiny(tmp_path, name)
    assert decoder.head is None
    embedding = weight_parts(decoder.config)["embedding"][0].name

    def stored(tensors):
        return tensors | {"lm_head.weight": tensors[embedding]}

    assert load(rewritten(tmp_path, stored)).head is None

    def another(tensors):
        return tensors | {"lm_head.weight": tensors[embedding] + np.float32(1)}

    with pytest.raises(CheckpointError, match="ties the head to the embedding"):
        load(rewritten(tmp_path, another))


def test_gemma_and_gpt2_tie_the_head_when_they_do_not_say(tmp_path):
    for name in ("gemma2", "gemma3_text", "gpt2", "smollm3"):
        silent = {k: v for k, v in CASES[name].items() if k != "tie_word_embeddings"}
        assert read_config(json.loads(json.dumps(silent))).tied_head
