"""config.json -> ModelConfig, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.tiny import CONFIG
from tests.models.tiny_families import CASES
from tests.models.tiny_families import FAMILIES as TINY
from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.config import Layer, ModelConfig, Rope
from toolkit.models.families import Part, read_config, weight_parts


def longrope(short: float, long: float) -> dict[str, object]:
    """LongRoPE for CONFIG with the same factor for all 8 pairs of features."""
    return {"type": "longrope", "short_factor": [short] * 8, "long_factor": [long] * 8}


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
        rope=Rope(theta=10_000.0),
        norm_epsilon=1e-5,
    )


def test_absent_attributes_have_the_defaults_of_hugging_face():
    names = ("num_key_value_heads", "head_dim", "rope_theta", "rms_norm_eps", "hidden_act")
    config = read_config({name: v for name, v in CONFIG.items() if name not in names})
    assert (config.kv_heads, config.head_width) == (4, 16)
    assert (config.rope.theta, config.norm_epsilon) == (10_000.0, 1e-6)


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
    assert read_config(CONFIG | rope).rope.theta == 5000.0


def test_contradicting_rope_theta():
    raw = CONFIG | {"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}
    with pytest.raises(CheckpointError, match=r"contradict each other: \[5000.0, 10000.0\]"):
        read_config(raw)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sliding_window": 4096}, "`sliding_window` = 4096"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}, "`rope_scaling.rope_type`"),
        ({"rope_scaling": longrope(1.0, 2.0)}, "`rope_scaling.long_factor` = [2.0, 2.0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "x": 1}}, "`rope_scaling.x` = 1"),
        ({"partial_rotary_factor": 0.5}, "`partial_rotary_factor` = 0.5"),
        ({"rope_parameters": {"rope_theta": 1e4, "factor": 8.0}}, "`rope_parameters.factor`"),
        ({"hidden_act": "gelu"}, "`hidden_act` = 'gelu'"),
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
        "attention_dropout": 0.1,
    }
    assert read_config(CONFIG | harmless) == read_config(CONFIG)


def test_unknown_family_lists_the_supported_and_the_nearest():
    with pytest.raises(
        UnsupportedModel, match=r"'llama4' is not supported.*The nearest is 'llama'"
    ):
        read_config(CONFIG | {"model_type": "llama4"})
    with pytest.raises(
        UnsupportedModel, match=r"None is not supported; supported are gemma2, .*, smollm3\. Choose"
    ):
        read_config({})


@pytest.mark.parametrize(
    ("kind", "nearest"), [("gemma3", "gemma3_text"), ("qwen2_moe", "qwen3_moe"), ("phi", "phi3")]
)
def test_the_nearest_family_is_named(kind, nearest):
    with pytest.raises(UnsupportedModel, match=f"The nearest is '{nearest}'"):
        read_config({"model_type": kind})


@pytest.mark.parametrize("kind", TINY)
def test_every_family_refuses_an_attribute_that_it_does_not_know(kind):
    with pytest.raises(UnsupportedModel, match=r"config.json sets `attention_sinks` = 4, which"):
        read_config(CASES[kind] | {"attention_sinks": 4})


@pytest.mark.parametrize("kind", TINY)
def test_every_family_refuses_another_head(kind):
    with pytest.raises(UnsupportedModel, match="`architectures`"):
        read_config(CASES[kind] | {"architectures": ["XForSequenceClassification"]})


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "`scale_attn_by_inverse_layer_idx`"),
        ("gpt2", {"activation_function": "tanh"}, "`activation_function` = 'tanh'"),
        ("gpt2", {"rope_theta": 1e4}, "`rope_theta` = 10000.0"),
        ("gemma2", {"use_bidirectional_attention": True}, "`use_bidirectional_attention`"),
        ("gemma2", {"hidden_activation": "gelu"}, "`hidden_activation` = 'gelu'"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "`rope_parameters.sliding_attention.rope_type` = 'linear'",
        ),
        ("phi3", {"rope_scaling": {"type": "yarn"}}, "`rope_scaling.type` = 'yarn'"),
        (
            "qwen2",
            {"layer_types": ["chunked_attention"] * 2},
            "`layer_types` = 'chunked",
        ),
        ("smollm3", {"no_rope_layers": [2, 1, 1, 1]}, "`no_rope_layers` = 2"),
        ("qwen2", {"mlp_bias": True}, "`mlp_bias` = True"),
    ],
)
def test_what_other_families_refuse(name, changes, named):
    with pytest.raises(UnsupportedModel) as caught:
        read_config(CASES[name] | changes)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mixtral", {"num_experts_per_tok": 9}, "there are 4 experts"),
        ("gpt_neox", {"rotary_pct": 0.4}, "makes 3 of 8 features turn"),
        ("gemma3_text", {"sliding_window": None}, "`sliding_window` has no length"),
        ("qwen2", {"layer_types": ["full_attention"]}, "an entry for each of 2 layers"),
        (
            "phi3",
            {"rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [1]}},
            "4",
        ),
        ("llama", {"rope_scaling": {"type": "linear"}}, "has no `rope_scaling.factor`"),
    ],
)
def test_contradictions_of_other_families(name, changes, message):
    with pytest.raises(CheckpointError) as caught:
        read_config(CASES[name] | changes)
    assert message in caught.value.message


def test_windows_and_rotary_embeddings_of_layers():
    whole, window = Layer(), Layer(window=5)
    assert read_config(CASES["gemma2"]).kinds == (window, whole)
    assert read_config(CASES["gemma3_text"]).kinds == (
        Layer(window=5, rope="local"),
        Layer(window=5, rope="local"),
        whole,
    )
    assert read_config(CASES["qwen2-window"]).kinds == (whole, Layer(window=3))
    assert read_config(CASES["qwen2"]).kinds == ()
    # SmolLM3 writes 1 for a layer that does turn.
    assert [kind.rope for kind in read_config(CASES["smollm3"]).kinds] == [*["global"] * 3, None]


def test_null_is_not_absent_where_hugging_face_has_a_default():
    silent = {name: v for name, v in CASES["mistral"].items() if name != "sliding_window"}
    assert read_config(silent).kinds[0].window == 4096
    assert read_config(silent | {"sliding_window": None}).kinds == ()
    silent = {name: v for name, v in CASES["gemma2"].items() if "softcapping" not in name}
    assert read_config(silent).logit_cap == 30.0
    assert read_config(CASES["gemma2-uncapped"]).attention_cap is None


def test_longrope_ends_the_context_where_its_angles_would_change():
    assert read_config(CASES["phi3"]).context == 64
    long = read_config(CASES["phi3-long"])
    assert long.context == 32
    assert long.rope.ratios == (1.0, 1 / 1.5, 0.5, 0.4)
    # sqrt(1 + ln 2 / ln 32)
    assert long.rope.magnitude == pytest.approx(1.2**0.5)


def test_longrope_with_the_same_factors_holds_for_every_length():
    config = read_config(CONFIG | {"rope_scaling": longrope(2.0, 2.0)})
    assert config.context == 128
    assert config.rope == Rope(theta=10_000.0, ratios=(0.5,) * 8)


def test_llama3_slows_long_waves_only():
    ratios = read_config(CASES["llama-llama3"]).rope.ratios
    # Over 16 tokens the first pair turns 2.5 times, between 1 and 4; the others less than once.
    kept = (16 / 6.283185307 - 1) / 3
    assert ratios == pytest.approx([kept + (1 - kept) / 4, 0.25, 0.25, 0.25])


def test_linear_slows_all():
    assert read_config(CASES["llama-linear"]).rope.ratios == (0.4,) * 4


def test_yarn_leaves_fast_features_and_slows_slow_ones():
    rope = read_config(CASES["llama-yarn"]).rope
    # 32 turns in 16 tokens would be before the first feature, one turn is at feature 0.8: the ramp
    # goes from 0 to 1.
    assert rope.ratios == (1.0, 0.25, 0.25, 0.25)
    assert rope.magnitude == pytest.approx(0.1 * 1.3862944 + 1)


def test_yarn_between_fast_and_slow_features():
    """Without truncation the ramp goes from feature 1.31, of 8 turns in 1024 tokens, to 3.51."""
    rope = read_config(CASES["llama-yarn-parts"]).rope
    low, high = (8 * np.log(1024 / (f * 2 * np.pi)) / (2 * np.log(1e4)) for f in (8, 0.05))
    slowed = [(feature - low) / (high - low) for feature in (2, 3)]
    assert rope.ratios == pytest.approx([1, 1, *(1 - 0.75 * share for share in slowed)])
    assert rope.magnitude == pytest.approx((0.07 * np.log(4) + 1) / (0.12 * np.log(4) + 1))


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
