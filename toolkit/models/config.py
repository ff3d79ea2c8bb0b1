"""What a decoder is made of: sizes and switches, complete at birth."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a decoder-only transformer. Lengths are in tokens, widths in features.

    Letters are those of `toolkit.models.decoder`: D width, H query heads, H_kv key/value heads,
    K head width, F hidden width of the MLP, V vocabulary, L layers.
    """

    family: str
    """Name of the file in `toolkit.models.families` that made this configuration."""
    vocab_size: int
    """V, rows of the embedding; every token id is below it."""
    width: int
    """D, features of the residual stream."""
    mlp_width: int
    """F, features between the two halves of the MLP."""
    layers: int
    """L, number of blocks."""
    heads: int
    """H, query heads."""
    kv_heads: int
    """H_kv, key/value heads; `heads` is a multiple of it (equal: full attention; 1:
    multi-query)."""
    head_width: int
    """K, features of one head (not always `width // heads`)."""
    context: int
    """Largest number of tokens, prompt and completion together."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_epsilon: float = 1e-5
    """Added to the mean square in RMS norm."""
    tied_head: bool = False
    """Whether the output head is the embedding itself (SmolLM2)."""
    attention_bias: bool = False
    """Whether the four attention projections have biases."""
    mlp_bias: bool = False
    """Whether the three MLP projections have biases."""

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads
