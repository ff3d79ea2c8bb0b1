"""A LoRA adapter, merged into the weights while they are loaded.

The folder is one that PEFT writes: adapter_config.json and adapter_model.safetensors. Each weight W
that it names becomes W + s B A, added in float32 and rounded once, with s = alpha / r, or
alpha / sqrt(r) for rank-stabilised adapters. Nothing of it is left when the model runs.

Sources: LoRA (Hu et al. 2021, arXiv 2106.09685), rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.config import ModelConfig
from toolkit.models.families import Part, canonical_name
from toolkit.models.families.attributes import Attributes
from toolkit.models.jsonfile import read_json
from toolkit.models.safetensors import read_safetensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
    }
)
"""What the tensors say themselves (which weights, which ranks, stored which way round), and what
is for training."""

_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")


class Pair(NamedTuple):
    """The two factors of one change: `[r, in]` and `[out, r]`."""

    down: np.ndarray
    up: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """The changes of an adapter, by the name of the weight that they change."""

    folder: Path
    alpha: float
    rank_stabilised: bool
    pairs: Mapping[str, Pair]

    @classmethod
    def read(cls, folder: Path | str, config: ModelConfig) -> Adapter:
        """The adapter of a folder for a model of this configuration.

        Raises UnsupportedModel for an option that is not handled, CheckpointError for files that
        are missing or damaged.
        """
        folder = Path(folder).expanduser()
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(
                f"`adapter` {str(folder)!r} has no {WEIGHTS}. Give the folder that PEFT's "
                "save_pretrained wrote; `.bin` files are pickles and are not read."
            )
        alpha, rank_stabilised = _options(folder)
        pairs = _pairs(folder, config)
        return cls(folder=folder, alpha=alpha, rank_stabilised=rank_stabilised, pairs=pairs)

    def merged(self, part: Part, weight: np.ndarray) -> np.ndarray:
        """A weight as the checkpoint stores it, with the change added in float32 if there is
        one."""
        if part.name not in self.pairs:
            return weight
        down, up = (factor.astype(np.float32) for factor in self.pairs[part.name])
        rank = len(down)
        scale = self.alpha / (rank**0.5 if self.rank_stabilised else rank)
        change = np.float32(scale) * (up @ down)
        change = change.T if part.rows is np.transpose else change
        if up.shape[1] != rank or change.shape != weight.shape:
            raise CheckpointError(
                f"The adapter in {self.folder} changes `{part.name}` by {list(change.shape)}, and "
                f"the model has {list(weight.shape)}. Load it with the model it was trained for."
            )
        return weight.astype(np.float32) + change

    def check_all_used(self, parts: Mapping[str, tuple[Part, ...]]) -> None:
        """Raise CheckpointError if a change is for a weight that the model has not."""
        known = {part.name for group in parts.values() for part in group}
        if strange := sorted(self.pairs.keys() - known):
            raise CheckpointError(
                f"The adapter in {self.folder} changes {len(strange)} weights that the model has "
                f"not, such as `{strange[0]}`. Load it with the model that it was trained for."
            )


def _options(folder: Path) -> tuple[float, bool]:
    """Alpha, and whether the adapter is rank-stabilised."""
    a = Attributes(read_json(folder / CONFIG), family="LoRA", source=CONFIG)
    a.expect("peft_type", "LORA")
    a.expect("task_type", "CAUSAL_LM")
    a.expect("bias", "none")
    a.expect("init_lora_weights", True, False, "gaussian")
    for name in ("use_dora", "lora_bias", "use_qalora", "use_bdlora"):
        a.expect(name, False)
    for name in ("modules_to_save", "layer_replication", "target_parameters"):
        a.expect(name, [])
    for name in ("alpha_pattern", "loftq_config", "trainable_token_indices"):
        a.expect(name, {})
    a.integer("r", 8)
    a.take("qalora_group_size", 0)
    alpha, stabilised = a.number("lora_alpha", 8), a.flag("use_rslora", False)
    a.done(HARMLESS)
    return alpha, stabilised


def _pairs(folder: Path, config: ModelConfig) -> dict[str, Pair]:
    """Name of a weight -> its two factors, as views of the mapped file."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in read_safetensors(folder / WEIGHTS).items():
        if (match := _NAME.fullmatch(name)) is None:
            raise UnsupportedModel(
                f"`{name}` in {folder / WEIGHTS} is no change of a projection (lora_A, lora_B), "
                "and ignoring it would change the model. Merge the adapter with PEFT instead: "
                "merge_and_unload(), then save_pretrained()."
            )
        weight = canonical_name(config, f"{match[1]}.weight") or f"{match[1]}.weight"
        found.setdefault(weight, {})[match[2]] = tensor
    if halves := sorted(name for name, pair in found.items() if len(pair) < 2):
        raise CheckpointError(
            f"The adapter in {folder} has one of two factors for `{halves[0]}`. Fetch it again."
        )
    return {name: Pair(down=pair["A"], up=pair["B"]) for name, pair in found.items()}
