"""What a decoder is made of: sizes and switches, complete at birth."""

from __future__ import annotations

import dataclasses
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Norm = Literal["rms", "rms_wide", "rms_offset", "layer"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """How queries and keys turn with their position.

    Whatever scales the frequencies for longer contexts (linear, llama3, yarn, longrope) is worked
    out where the configuration is read: what remains is a ratio a frequency and one magnitude.
    """

    theta: float = 10_000.0
    """Base of the frequencies."""
    width: int | None = None
    """Features of a head that turn, counted from the first; None is all of them."""
    ratios: tuple[float, ...] = ()
    """What each frequency is multiplied with, one for each pair of features; empty: 1."""
    magnitude: float = 1.0
    """What cosine and sine are multiplied with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """What one layer does otherwise than its neighbours."""

    window: int | None = None
    """Tokens that a query sees, itself included; None is all before it."""
    rope: Literal["global", "local"] | None = "global"
    """Which of the two rotary embeddings its heads turn by; None: they do not turn."""
    sparse: bool = False
    """Whether its MLP is a mixture of experts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and switches of a decoder-only transformer. Lengths are in tokens, widths in features.

    Letters are those of `toolkit.models.decoder`: D width, H query heads, H_kv key/value heads,
    K head width, F hidden width of the MLP, V vocabulary, L layers, E experts. The defaults are
    those of the Llama family.
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
    kinds: tuple[Layer, ...] = ()
    """One for each layer; empty when all are `Layer()`."""

    rope: Rope = Rope()
    """The rotary embedding, or the global one of two."""
    local_rope: Rope | None = None
    """The rotary embedding of layers that say "local" (Gemma 3)."""
    learned_positions: bool = False
    """Whether a learned vector for each position is added to the embedding (GPT-2)."""

    norm: Norm = "rms"
    """"rms": root mean square, scaled after rounding to the model's dtype; "rms_wide": scaled
    before (OLMo 2); "rms_offset": like "rms_wide", and the scale is 1 more than what is stored
    (Gemma); "layer": mean and variance, with a bias (GPT-2, GPT-NeoX)."""
    norm_epsilon: float = 1e-5
    """Added to the mean square or variance."""
    pre_norm: bool = True
    """Whether attention and MLP read a norm of the residual."""
    post_norm: bool = False
    """Whether what they give is normed before it is added (Gemma, OLMo 2)."""
    query_key_norm: Literal["head", "whole"] | None = None
    """Norm of queries and keys before they turn: a head at a time (Qwen 3, Gemma 3) or over all
    heads (OLMo 2)."""
    parallel: bool = False
    """Whether the MLP reads what attention read, and both are added at once (GPT-NeoX)."""

    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    output_bias: bool = False
    """Whether the projection after attention has one."""
    mlp_bias: bool = False
    """Whether the projections of the MLP have biases."""
    attention_scale: float | None = None
    """What scores are multiplied with; None is K ** -0.5."""
    attention_cap: float | None = None
    """Scores s become cap * tanh(s / cap) (Gemma 2)."""
    activation: Activation = "silu"
    """"gelu" is the exact one, with the error function; "gelu_tanh" its approximation."""
    gated: bool = True
    """Whether the MLP has a gate, `activation(gate) * up`; else it is `activation(up)`."""

    experts: int = 0
    """E, MLPs of a mixture; 0 for none."""
    experts_used: int = 0
    """How many of them each token goes through."""
    expert_width: int = 0
    """F of one expert."""
    experts_normalised: bool = True
    """Whether the shares of the experts used are scaled to sum to 1."""

    embedding_scale: float | None = None
    """What embeddings are multiplied with, rounded to the model's dtype (Gemma)."""
    tied_head: bool = False
    """Whether the output head is the embedding itself (SmolLM2)."""
    logit_cap: float | None = None
    """Logits z become cap * tanh(z / cap) (Gemma 2)."""

    quant: Literal["int8"] | None = None
    """"int8": projections and head in 8-bit whole numbers (`toolkit.models.int8`); the head has a
    kernel of its own then, tied or not."""

    strict: bool = dataclasses.field(default=False, repr=False)
    """Whether 8-bit products on a CPU must be computed alike in every company, which costs time
    where they are not compiled C."""

    kernels: Literal["decoding", "short"] | None = dataclasses.field(default=None, repr=False)
    """What is compiled C (`toolkit.kernels`) where that fits. "decoding": attention, the sampler,
    the products of decoding and of the head, and where the processor has a unit for them those of
    all prompts; "short": also other ones for short prompts, which then have other bits than in a
    packed row. Neither of these is in the text of a configuration, which names the model: it
    is the same one without them."""

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    def kind(self, layer: int) -> Layer:
        """What layer number `layer` does."""
        return self.kinds[layer] if self.kinds else Layer()
