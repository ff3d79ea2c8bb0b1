"""Make llama_*.npz: tiny random Llama models and the logits that Hugging Face computes for them.

    python tests/golden/make_llama.py            (needs torch and transformers)

Each file holds the configuration as JSON, the weights, and for prompts of several lengths the
tokens and the float32 logits at every position. Weights are whole multiples of STEP, which makes
the files small.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

STEP = 1 / 256
COMMON = {
    "vocab_size": 11,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
}
MODELS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "full": ({"num_key_value_heads": 4}, (1, 7)),
    "grouped": (
        {"num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 100_000.0},
        (1, 7, 600),
    ),
    "single": (
        {"num_key_value_heads": 1, "head_dim": 32, "attention_bias": True, "mlp_bias": True},
        (1, 7),
    ),
}


def weights(model: LlamaForCausalLM, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random float32 values for every parameter: around 1 for norms, around 0 for the others."""
    return {
        name: np.float32("norm" in name)
        + np.float32(STEP) * np.round(random.normal(0, 32, tuple(p.shape))).astype(np.float32)
        for name, p in model.named_parameters()
    }


def main() -> None:
    torch.set_num_threads(1)
    for number, (name, (changes, lengths)) in enumerate(MODELS.items()):
        random = np.random.default_rng(number)
        raw = COMMON | changes
        model = LlamaForCausalLM(LlamaConfig(**raw)).eval()
        made = weights(model, random)
        with torch.no_grad():
            for key, target in model.named_parameters():
                target.copy_(torch.from_numpy(made[key]))
        arrays = {f"weights/{key}": value for key, value in made.items()}
        for length in lengths:
            tokens = random.integers(0, COMMON["vocab_size"], length)
            with torch.no_grad():
                logits = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
            arrays |= {f"tokens/{length}": tokens.astype(np.int32), f"logits/{length}": logits}
        config = json.dumps({"model_type": "llama", **raw})
        path = Path(__file__).parent / f"llama_{name}.npz"
        np.savez_compressed(path, config=config, **arrays)


if __name__ == "__main__":
    main()
