"""Make families.npz: the logits that Hugging Face computes for the tiny models of every family.

    python tests/golden/make_families.py         (from the repository's root; needs torch)

Models and weights are those of tests/models/tiny_families.py; the file holds, for each case, the
float32 logits at every position of its three prompts. Names and shapes of the tensors are those
that transformers writes and reads.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.models.tiny_families import CASES, prompts, weights, write_case


def peer(folder: Path, raw: Mapping[str, Any]) -> Any:
    """Hugging Face's model of a case, read from a folder that is written first."""
    kind = raw["model_type"]
    blank = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**dict(raw)), attn_implementation="eager"
    )
    blank.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    write_case(folder, raw, weights(shapes, offset=kind.startswith("gemma")))
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(found.values()), found
    return model.eval()


def main() -> None:
    torch.set_num_threads(1)
    arrays = {}
    for name, raw in CASES.items():
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            model = peer(Path(folder), raw)
            logits = [model(torch.from_numpy(t)[None].long()).logits[0] for t in prompts(name)]
        arrays[name] = torch.cat(logits).numpy()
        print(f"{name:20} up to {np.abs(arrays[name]).max():.2f}")
    np.savez_compressed(Path(__file__).parent / "families.npz", **arrays)


if __name__ == "__main__":
    main()
