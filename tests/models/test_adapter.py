"""LoRA adapters merged at load, by arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.models.test_family_logits import tiny
from tests.models.tiny import tensors, write_folder
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models import load

QUERY = "model.layers.1.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 6,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "loftq_config": {},
}


def pair(module: str, outputs: int, inputs: int, rank: int = 2) -> dict[str, np.ndarray]:
    random = np.random.RandomState(len(module))
    return {
        f"base_model.model.{module}.lora_A.weight": random.randn(rank, inputs).astype(np.float32),
        f"base_model.model.{module}.lora_B.weight": random.randn(outputs, rank).astype(np.float32),
    }


def write_adapter(folder: Path, made: dict[str, np.ndarray], **changes: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    save_file(made, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def base(tmp_path):
    return write_folder(tmp_path / "base")


@pytest.mark.parametrize(("changes", "scale"), [({}, 3.0), ({"use_rslora": True}, 6 / 2**0.5)])
def test_a_merged_weight_is_w_plus_s_b_a(base, tmp_path, changes, scale):
    made = pair(QUERY, 64, 64) | pair(DOWN, 64, 96)
    decoder = load(base, adapter=write_adapter(tmp_path / "lora", made, **changes))
    a, b = (made[f"base_model.model.{QUERY}.lora_{x}.weight"].astype(np.float64) for x in "AB")
    expected = tensors()[f"{QUERY}.weight"] + scale * b @ a
    np.testing.assert_allclose(decoder.blocks[1].qkv.kernel[:64], expected, rtol=1e-5, atol=1e-6)
    a, b = (made[f"base_model.model.{DOWN}.lora_{x}.weight"].astype(np.float64) for x in "AB")
    expected = tensors()[f"{DOWN}.weight"] + scale * b @ a
    np.testing.assert_allclose(decoder.blocks[0].down.kernel[...], expected, rtol=1e-5, atol=1e-6)


def test_what_the_adapter_does_not_name_stays(base, tmp_path):
    decoder = load(base, adapter=write_adapter(tmp_path / "lora", pair(QUERY, 64, 64)))
    key = tensors()["model.layers.1.self_attn.k_proj.weight"]
    np.testing.assert_array_equal(decoder.blocks[1].qkv.kernel[64:96], key)


def test_ranks_may_differ_between_weights(base, tmp_path):
    made = pair(QUERY, 64, 64, rank=3)
    folder = write_adapter(tmp_path / "lora", made, rank_pattern={"q_proj": 3})
    a, b = (made[f"base_model.model.{QUERY}.lora_{x}.weight"] for x in "AB")
    expected = tensors()[f"{QUERY}.weight"] + 2.0 * b @ a
    found = load(base, adapter=folder).blocks[1].qkv.kernel[:64]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_sum_is_rounded_once(base, tmp_path):
    """From the float32 sum, not from a rounded weight and a rounded change."""
    made = {name: factor * np.float32(1e-3) for name, factor in pair(QUERY, 64, 64).items()}
    decoder = load(base, dtype=jnp.bfloat16, adapter=write_adapter(tmp_path / "lora", made))
    a, b = (made[f"base_model.model.{QUERY}.lora_{x}.weight"] for x in "AB")
    exact = tensors()[f"{QUERY}.weight"] + np.float32(3) * (b @ a)
    np.testing.assert_array_equal(
        decoder.blocks[1].qkv.kernel[:64], jnp.asarray(exact).astype(jnp.bfloat16)
    )


def test_gpt2_kernels_are_changed_the_way_they_are_stored(tmp_path):
    """The output projection is square, so its shape would not tell."""
    tiny(tmp_path / "base", "gpt2")
    made = pair("transformer.h.0.attn.c_proj", 32, 32)
    adapter = write_adapter(tmp_path / "lora", made, fan_in_fan_out=True)
    stored = load_file(tmp_path / "base/model.safetensors")["transformer.h.0.attn.c_proj.weight"]
    a, b = made.values()
    found = load(tmp_path / "base", adapter=adapter).blocks[0].output.kernel[...]
    np.testing.assert_allclose(found, stored.T + 3 * b @ a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "`use_dora` = True"),
        ({"bias": "all"}, "`bias` = 'all'"),
        ({"alpha_pattern": {"q_proj": 2}}, "`alpha_pattern`"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights` = 'pissa'"),
        ({"peft_type": "IA3"}, "`peft_type` = 'IA3'"),
        ({"new_option": 1}, "`new_option` = 1"),
    ],
)
def test_options_that_are_not_handled_are_refused(base, tmp_path, changes, named):
    folder = write_adapter(tmp_path / "lora", pair(QUERY, 64, 64), **changes)
    with pytest.raises(UnsupportedModel) as caught:
        load(base, adapter=folder)
    assert named in caught.value.message


def test_adapters_that_do_not_fit(base, tmp_path):
    strange = write_adapter(tmp_path / "strange", pair("model.layers.7.mlp.up_proj", 96, 64))
    with pytest.raises(CheckpointError, match=r"1 weights that the model has not, such as `model"):
        load(base, adapter=strange)
    wide = write_adapter(tmp_path / "wide", pair(QUERY, 64, 32))
    with pytest.raises(CheckpointError, match=r"by \[64, 32\], and the model has \[64, 64\]"):
        load(base, adapter=wide)
    half = dict(list(pair(QUERY, 64, 64).items())[:1])
    with pytest.raises(CheckpointError, match="one of two factors"):
        load(base, adapter=write_adapter(tmp_path / "half", half))
    other = {f"base_model.model.{QUERY}.lora_magnitude_vector": np.ones(64, np.float32)}
    with pytest.raises(UnsupportedModel, match="lora_magnitude_vector"):
        load(base, adapter=write_adapter(tmp_path / "other", other))
    with pytest.raises(CheckpointError, match=r"has no adapter_model.safetensors"):
        load(base, adapter=tmp_path)
