"""config.json -> ModelConfig, and what is refused."""

from __future__ import annotations

import pytest

from tests.models.tiny import CONFIG
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.config import ModelConfig
from toolkit.models.families import Part, read_config, weight_parts


def test_sizes_and_switches():
    assert read_config(CONFIG) == ModelConfig(
        family="llama",
        vocab_size=11,
        width=64,
        mlp_width=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=16,
        context=128,
        rope_theta=10_000.0,
        norm_epsilon=1e-5,
    )


def test_absent_attributes_have_the_defaults_of_hugging_face():
    names = ("num_key_value_heads", "head_dim", "rope_theta", "rms_norm_eps", "hidden_act")
    config = read_config({name: v for name, v in CONFIG.items() if name not in names})
    assert (config.kv_heads, config.head_width) == (4, 16)
    assert (config.rope_theta, config.norm_epsilon) == (10_000.0, 1e-6)


def test_null_is_absent():
    nulls = {"num_key_value_heads": None, "rope_scaling": None, "pad_token_id": None}
    assert read_config(CONFIG | nulls).kv_heads == 4


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5000},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}},
        {"rope_theta": 5000.0, "rope_parameters": {"rope_theta": 5000, "rope_type": "default"}},
        {"rope_theta": 5000.0, "rope_scaling": {"type": "default"}},
    ],
)
def test_rope_theta_old_and_new(rope):
    assert read_config(CONFIG | rope).rope_theta == 5000.0


def test_contradicting_rope_theta():
    raw = CONFIG | {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}
    with pytest.raises(CheckpointError, match=r"contradict each other: \[5000.0, 10000.0\]"):
        read_config(raw)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sliding_window": 4096}, "`sliding_window` = 4096"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "`rope_scaling.rope_type`"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "`rope_scaling.type` = 'linear'"),
        ({"rope_parameters": {"rope_theta": 1e4, "factor": 8.0}}, "`rope_parameters.factor`"),
        ({"hidden_act": "gelu"}, "`hidden_act` = 'gelu'"),
        ({"attention_dropout": 0.1}, "`attention_dropout`"),
        ({"pretraining_tp": 2}, "`pretraining_tp` = 2"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "`architectures`"),
        ({"b": 1, "a": 2}, "`a` = 2, `b` = 1"),
    ],
)
def test_what_is_not_handled_is_refused_by_name(changes, named):
    with pytest.raises(UnsupportedModel) as caught:
        read_config(CONFIG | changes)
    assert named in caught.value.message


def test_harmless_attributes():
    harmless = {
        "_name_or_path": "x",
        "torch_dtype": "bfloat16",
        "dtype": "float32",
        "transformers_version": "5.0",
        "use_cache": True,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "pretraining_tp": 1,
        "attention_dropout": 0.0,
    }
    assert read_config(CONFIG | harmless) == read_config(CONFIG)


def test_unknown_family_lists_the_supported_and_the_nearest():
    with pytest.raises(
        UnsupportedModel, match=r"'llama4' is not supported.*The nearest is 'llama'"
    ):
        read_config(CONFIG | {"model_type": "llama4"})
    with pytest.raises(UnsupportedModel, match=r"None is not supported; supported are llama\."):
        read_config({})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "config.json has no `hidden_size`"),
        ({"vocab_size": "11"}, "`vocab_size` in config.json must be a whole number of at least 1"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers`"),
        ({"mlp_bias": 1}, "`mlp_bias` in config.json must be true or false, got 1"),
        ({"rms_norm_eps": -1.0}, "`rms_norm_eps`"),
        ({"rope_scaling": "linear"}, "`rope_scaling` in config.json must be an object"),
        ({"num_key_value_heads": 3}, "multiple of `num_key_value_heads`, got 4 and 3"),
        ({"head_dim": 15}, "head width must be even"),
    ],
)
def test_contradictions(changes, message):
    with pytest.raises(CheckpointError) as caught:
        read_config(CONFIG | changes)
    assert message in caught.value.message


def test_weight_parts():
    parts = weight_parts(read_config(CONFIG | {"attention_bias": True}))
    assert parts["blocks.1.qkv.kernel"] == (
        Part("model.layers.1.self_attn.q_proj.weight", (64, 64)),
        Part("model.layers.1.self_attn.k_proj.weight", (32, 64)),
        Part("model.layers.1.self_attn.v_proj.weight", (32, 64)),
    )
    assert parts["blocks.0.output.bias"] == (Part("model.layers.0.self_attn.o_proj.bias", (64,)),)
    assert "blocks.0.down.bias" not in parts
    assert parts["head.kernel"] == (Part("lm_head.weight", (11, 64)),)
    assert "head.kernel" not in weight_parts(read_config(CONFIG | {"tie_word_embeddings": True}))
