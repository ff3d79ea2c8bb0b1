"""Models and vocabularies under exact control: logits are a table of the last token.

`MarkovModel` is the table in NumPy, `toy_decoder` the same table as a `Decoder`, and
`write_toy` a complete model folder of it that loads through the ordinary path.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from toolkit.models.config import ModelConfig
from toolkit.models.decoder import Decoder

EPSILON = 1e-12
"""Of the RMS norm: 1 + EPSILON is 1 in float32, so a row with mean square 1 stays as it is."""

LOWEST = -3e38
"""Times an embedding entry (2 or more) this overflows to minus infinity, while 0 times it is 0."""

FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclasses.dataclass(frozen=True)
class MarkovModel:
    """Raw logits that depend on the last token only: `table[last]`, `[V, V]` float32."""

    table: np.ndarray

    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        """Logits of the token after `ids` (at least one): `[V]`."""
        return self.table[ids[-1]]


def chain(
    vocab_size: int, steps: Mapping[int, Mapping[int, float]], *, floor: float = -30.0
) -> np.ndarray:
    """A table where `steps[last][next]` is the logit and every other one is `floor`: `[V, V]`."""
    table = np.full((vocab_size, vocab_size), floor, np.float32)
    for last, following in steps.items():
        for token, logit in following.items():
            table[last, token] = logit
    return table


def path(vocab_size: int, ids: Sequence[int], *, floor: float = -30.0) -> np.ndarray:
    """A table whose greedy continuation of `ids[0]` is `ids[1:]`; only the last id may repeat."""
    if len(set(ids[:-1])) != len(ids) - 1:
        raise ValueError("Only the last id may repeat: the next token depends on one id.")
    return chain(
        vocab_size,
        {last: {token: 0.0} for last, token in itertools.pairwise(ids)},
        floor=floor,
    )


def random_table(vocab_size: int, seed: int, *, scale: float = 2.0) -> np.ndarray:
    """A table of normal numbers: `[V, V]` float32."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(vocab_size, vocab_size)) * scale).astype(np.float32)


def width_of(vocab_size: int) -> int:
    """The smallest power of four from 4 on that is at least V: scaling by its root is exact."""
    width = 4
    while width < vocab_size:
        width *= 4
    return width


def toy_weights(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and head, `[V, D]` each: one-hot rows times sqrt(D), columns of the table over it.

    A table entry of minus infinity is allowed.
    """
    vocab_size = table.shape[0]
    width = width_of(vocab_size)
    embedding = np.zeros((vocab_size, width), np.float32)
    np.fill_diagonal(embedding, np.sqrt(width))
    head = np.zeros((vocab_size, width), np.float32)
    head[:, :vocab_size] = np.where(np.isneginf(table), LOWEST, table / np.sqrt(width)).T
    return embedding, head


def toy_config(vocab_size: int, *, context: int = 64, layers: int = 0) -> ModelConfig:
    """Sizes of a decoder over V tokens; its layers, if any, are to add nothing."""
    return ModelConfig(
        family="llama",
        vocab_size=vocab_size,
        width=width_of(vocab_size),
        mlp_width=1,
        layers=layers,
        heads=1,
        kv_heads=1,
        head_width=2,
        context=context,
        norm_epsilon=EPSILON,
    )


def toy_decoder(table: np.ndarray, *, context: int = 64, layers: int = 0) -> Decoder:
    """A `Decoder` whose float32 logits after any ids are exactly `table[last]`."""
    config = toy_config(table.shape[0], context=context, layers=layers)
    decoder = Decoder(config, rngs=nnx.Rngs(0))
    for block in decoder.blocks:
        block.output.kernel[...] = jnp.zeros_like(block.output.kernel[...])
        block.down.kernel[...] = jnp.zeros_like(block.down.kernel[...])
    embedding, head = toy_weights(table)
    decoder.embedding[...] = jnp.asarray(embedding)
    decoder.head.kernel[...] = jnp.asarray(head)
    return decoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyVocabulary:
    """Ids 0..255 are the bytes, 256 ends a text, then come `words`, then other special tokens."""

    words: tuple[bytes, ...] = ()
    """Tokens of several bytes, which may be parts of characters."""
    merges: bool = False
    """Whether text is encoded with `words` (each another token and a byte); else byte by byte."""
    bos: bool = False
    """Whether there is a `<|begin|>` that the tokenizer puts in front of text."""
    fim: bool = False
    """Whether there are the three tokens of fill-in-the-middle."""

    eos_id = 256

    @property
    def specials(self) -> dict[str, int]:
        """Surface string -> id of the special tokens."""
        names = [*(["<|begin|>"] if self.bos else []), *(FIM if self.fim else [])]
        return {"<|end|>": self.eos_id} | {
            name: 257 + len(self.words) + i for i, name in enumerate(names)
        }

    @property
    def tokens(self) -> list[bytes]:
        """Bytes of every id; those of a special token are its surface string."""
        end, *others = (name.encode() for name in self.specials)
        return [*(bytes([byte]) for byte in range(256)), end, *self.words, *others]

    @property
    def size(self) -> int:
        """V."""
        return len(self.tokens)

    def id_of(self, piece: bytes) -> int:
        """The id of a byte or a word."""
        return self.tokens.index(piece)

    def tokenizer_json(self) -> dict:
        """A byte-level BPE tokenizer with these ids, in the format of the `tokenizers` library."""
        names = byte_names()
        pieces = {
            "".join(names[byte] for byte in piece): token
            for token, piece in enumerate(self.tokens)
            if token not in self.specials.values()
        }
        split = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_added(name, token) for name, token in self.specials.items()],
            "normalizer": None,
            "pre_tokenizer": split,
            "post_processor": _begin(self.specials["<|begin|>"]) if self.bos else None,
            "decoder": split,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": pieces | self.specials,
                "merges": list(self._merges(names)) if self.merges else [],
            },
        }

    def _merges(self, names: Mapping[int, str]) -> Iterable[list[str]]:
        for word in sorted(self.words, key=len):
            if word[:-1] not in self.tokens:
                raise ValueError(f"To merge {word!r}, {word[:-1]!r} must be a token too.")
            yield ["".join(names[byte] for byte in word[:-1]), names[word[-1]]]


def byte_names() -> dict[int, str]:
    """The character by which byte-level BPE writes each byte: itself, or one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(hidden)
    }


def write_toy(
    folder: Path, table: np.ndarray, vocabulary: ToyVocabulary, *, context: int = 64
) -> Path:
    """Write a complete model folder as Hugging Face does; returns it.

    A Llama with one layer whose weights are zero: configurations without layers are refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = toy_config(vocabulary.size, context=context, layers=1)
    special = {
        "eos_token_id": vocabulary.eos_id,
        "bos_token_id": vocabulary.specials.get("<|begin|>"),
    }
    files = {
        "config.json": _llama(config) | special,
        "generation_config.json": special,
        "tokenizer.json": vocabulary.tokenizer_json(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "bos_token": "<|begin|>" if vocabulary.bos else None,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    embedding, head = toy_weights(table)
    weights = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": np.ones(config.width, np.float32),
        "lm_head.weight": head,
    }
    for name, shape in _layer_shapes(config).items():
        weights[f"model.layers.0.{name}.weight"] = np.zeros(shape, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _llama(config: ModelConfig) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope.theta,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    wide, head, mlp = config.width, config.head_width, config.mlp_width
    attention = {f"self_attn.{name}_proj": (head, wide) for name in "qkv"}
    return attention | {
        "self_attn.o_proj": (wide, head),
        "mlp.gate_proj": (mlp, wide),
        "mlp.up_proj": (mlp, wide),
        "mlp.down_proj": (wide, mlp),
        "input_layernorm": (wide,),
        "post_attention_layernorm": (wide,),
    }


def _added(name: str, token: int) -> dict:
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {"id": token, "content": name, **flags}


def _begin(token: int) -> dict:
    """The post-processor that puts `<|begin|>` in front."""
    begin = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, second],
        "special_tokens": {
            "<|begin|>": {"id": "<|begin|>", "ids": [token], "tokens": ["<|begin|>"]}
        },
    }
