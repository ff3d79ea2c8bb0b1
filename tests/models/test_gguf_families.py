"""Every architecture's GGUF files against Hugging Face's logits (tests/golden/make_families.py)."""

from __future__ import annotations

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from tests.models.gguf_files import SAID, case_weights, converted, metadata, write, write_case
from tests.models.test_family_logits import SLOW, forward, golden
from tests.models.tiny_families import CASES, LENGTHS, prompts
from toolkit.cli.models import models
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models import KVCache, load
from toolkit.models.families import FAMILIES
from toolkit.models.gguf import prepare, read_gguf
from toolkit.models.gguf.architectures import ARCHITECTURES
from toolkit.models.gguf.convert import config_json
from toolkit.models.safetensors import read_safetensors


@pytest.fixture
def loaded(tmp_path):
    """`loaded(case, **changes)`: the decoder of that case's GGUF file."""

    def make(name, **changes):
        folder = tmp_path / "prepared"
        folder.mkdir()
        prepare(write_case(tmp_path / f"{name}.gguf", name, **changes), folder)
        return load(folder)

    return make


@pytest.mark.parametrize("name", [name for name in SAID if name not in SLOW])
def test_logits_equal_hugging_face(name, loaded):
    decoder = loaded(name)
    rows, longest = prompts(name), max(LENGTHS)
    padded = np.stack([np.pad(row, (0, longest - len(row)), constant_values=5) for row in rows])
    empty = KVCache.zeros(decoder.config, rows=3, slots=32, dtype=jnp.dtype(jnp.float32))
    logits, _ = forward(decoder)(padded, np.zeros(3, np.int32), empty)
    for row, whole in zip(logits, golden(name), strict=True):
        np.testing.assert_allclose(row[: len(whole)], whole, atol=1e-5, rtol=0)


def test_files_are_written_for_every_family():
    assert {CASES[name]["model_type"] for name in SAID} == set(FAMILIES)
    assert {kind for one in ARCHITECTURES.values() for kind in one.families} == set(FAMILIES)


def test_the_command_says_which_files_hold_a_family(capsys):
    models()
    lines = capsys.readouterr().out.splitlines()
    assert "qwen3_moe    Qwen3MoeForCausalLM; GGUF: qwen3moe" in lines
    assert "mistral      MistralForCausalLM; GGUF: llama" in lines


# What only the metadata tells


def metadata_of(tmp_path, name, **changes):
    """config.json of a case's file with other fields."""
    return config_json(read_gguf(write_case(tmp_path / "one.gguf", name, **changes)))


@pytest.mark.parametrize(
    ("name", "prefix", "big", "scalar"),
    [("gemma2", "gemma2", 46, 8), ("gemma3_text", "gemma3", 62, 8)],
)
def test_scores_of_gemma_scale_by_the_head_width_but_in_the_largest(
    tmp_path, name, prefix, big, scalar
):
    silent = {f"{prefix}.attention.scale": None}
    assert metadata_of(tmp_path, name, **silent)["query_pre_attn_scalar"] == 16
    # Width 32 by 4 heads.
    largest = silent | {f"{prefix}.block_count": big}
    largest |= {f"{prefix}.attention.sliding_window_pattern": None}
    assert metadata_of(tmp_path, name, **largest)["query_pre_attn_scalar"] == scalar


def sliding(config):
    return [kind == "sliding_attention" for kind in config["layer_types"]]


def test_windows_of_gemma_where_the_file_is_silent(tmp_path):
    pattern = "gemma3.attention.sliding_window_pattern"
    made = metadata_of(tmp_path, "gemma3_text", **{pattern: None, "gemma3.block_count": 7})
    assert sliding(made) == [True] * 5 + [False, True]
    listed = metadata_of(tmp_path, "gemma3_text", **{pattern: [False, True, False]})
    assert sliding(listed) == [False, True, False]
    none = {pattern: None, "gemma3.attention.sliding_window": None}
    assert sliding(metadata_of(tmp_path, "gemma3_text", **none)) == [False] * 3
    assert sliding(metadata_of(tmp_path, "gemma2")) == [True, False]
    caps = {f"gemma2.{one}_logit_softcapping": None for one in ("attn", "final")}
    made = metadata_of(tmp_path, "gemma2", **caps)
    assert (made["attn_logit_softcapping"], made["final_logit_softcapping"]) == (50.0, 30.0)


def test_yarn_s_own_numbers(tmp_path):
    yarn = "llama.rope.scaling.yarn_"
    own = {f"{yarn}beta_fast": 16.0, f"{yarn}beta_slow": 0.5, f"{yarn}attn_factor": 1.25}
    assert metadata_of(tmp_path, "llama-yarn", **own)["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "attention_factor": 1.25,
        "beta_fast": 16.0,
        "beta_slow": 0.5,
    }


def test_experts_of_the_first_files_stood_apart(tmp_path):
    stacked = converted(CASES["mixtral"], case_weights("mixtral"))
    apart = {}
    for name, tensor in stacked.items():
        if "_exps" not in name:
            apart[name] = tensor
            continue
        for number, matrix in enumerate(tensor):
            apart[name.replace("_exps", f".{number}")] = matrix
    fields = {f"llama.{name}": value for name, value in metadata(CASES["mixtral"]).items()}
    (tmp_path / "made").mkdir()
    prepare(write(tmp_path / "old.gguf", "llama", fields, apart), tmp_path / "made")
    weights = read_safetensors(tmp_path / "made/model.safetensors")
    for name, tensor in case_weights("mixtral").items():
        np.testing.assert_array_equal(weights[name], tensor, err_msg=name)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_blocks_go_through_transposes_and_fused_rows(tmp_path, kind):
    """What is undone to numbers is undone to those of blocks too."""
    block = gguf.GGMLQuantizationType[kind]
    for name in ("gpt2", "gpt_neox", "mixtral"):
        folder = tmp_path / name
        folder.mkdir()
        source = write_case(tmp_path / f"{name}.gguf", name, kind=kind)
        stored = converted(CASES[name], case_weights(name))
        for given, tensor in read_gguf(source).tensors.items():
            expected = stored[given]
            if tensor.kind == kind:
                expected = dequantize(quantize(expected, block), block)
            np.testing.assert_array_equal(tensor.values(), expected, err_msg=given)
        prepare(source, folder)
        weights = read_safetensors(folder / "model.safetensors")
        for whole, theirs in case_weights(name).items():
            np.testing.assert_allclose(weights[whole], theirs, atol=0.06, rtol=0, err_msg=whole)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("olmo2", {"olmo2.attention.sliding_window": 4096}, "`olmo2.attention.sliding_window`"),
        ("qwen3", {"qwen3.pooling_type": 3}, "`qwen3.pooling_type` = 3"),
        ("qwen3_moe", {"qwen3moe.expert_gating_func": 2}, "`qwen3moe.expert_gating_func` = 2"),
        ("qwen3_moe", {"qwen3moe.expert_shared_count": 1}, "`qwen3moe.expert_shared_count` = 1"),
        ("qwen3_moe", {"qwen3moe.expert_weights_norm": False}, "`qwen3moe.expert_weights_norm`"),
        ("gpt2", {"gpt2.attention.head_count_kv": 2}, "`gpt2.attention.head_count_kv` = 2"),
        ("gpt_neox", {"gptneox.attention.key_length": 4}, "`gptneox.attention.key_length` = 4"),
        ("gemma2", {"gemma2.rope.freq_base_swa": 5.0}, "`gemma2.rope.freq_base_swa` = 5.0"),
        ("llama-yarn", {"llama.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor` = 0.5"),
        ("llama-llama3", {"llama.rope.scaling.type": "linear"}, "`llama.rope.scaling.type`"),
        ("phi3", {"phi3.rope.scaling.attn_factor": 1.19}, "`phi3.rope.scaling.attn_factor`"),
        ("phi3", {"phi3.rope.scaling.type": "yarn"}, "`phi3.rope.scaling.type` = 'yarn'"),
        ("mixtral", {"llama.expert_shared_count": 1}, "`llama.expert_shared_count` = 1"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(tmp_path, name, changes, named):
    with pytest.raises(UnsupportedModel) as caught:
        metadata_of(tmp_path, name, **changes)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma3_text", {"gemma3.attention.sliding_window_pattern": [True]}, "for each of 3"),
        ("mixtral", {"llama.expert_used_count": None}, "has no `llama.expert_used_count`"),
        ("phi3", {"phi3.attention.sliding_window": True}, "must be a whole number"),
        ("gpt2", {"gpt2.attention.layer_norm_epsilon": None}, "layer_norm_epsilon"),
    ],
)
def test_contradictions(tmp_path, name, changes, message):
    with pytest.raises(CheckpointError, match=message):
        metadata_of(tmp_path, name, **changes)


def test_one_list_of_factors_alone_is_refused(tmp_path):
    alone = {"rope_factors_long.weight": np.ones(4, np.float32)}
    with pytest.raises(CheckpointError, match="only one of"):
        metadata_of(tmp_path, "phi3", extra=alone)
