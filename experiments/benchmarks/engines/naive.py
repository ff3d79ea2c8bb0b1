"""What one writes in JAX on a first afternoon: a jitted step with a cache, and a loop around it.

Separate projections, a cache that is passed in and returned, top-p by sorting, one token read back
at a time. It shows what the toolkit's engine adds; nothing here is meant to be fast.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from safetensors.flax import load_file


class Engine:
    """A loaded Llama folder in float32."""

    def __init__(self, *, folder: str, gguf: dict[str, str], threads: int, context: int):
        self.config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.weights: dict[str, jax.Array] = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            found = load_file(path)
            self.weights |= {name: x.astype(jnp.float32) for name, x in found.items()}
        self.context = context
        self.step = jax.jit(self._step)
        self.draw = jax.jit(draw)

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": ["float32"]}

    def decode(self, ids: list[int], count: int, variant: str, rows: int = 1) -> dict[str, Any]:
        """The same prompt in some rows, greedily."""
        return self._run(ids, count, rows, lambda logits, key: jnp.argmax(logits, axis=-1))

    def sample(
        self, ids: list[int], n: int, count: int, variant: str, logprobs: int, **asked: Any
    ) -> dict[str, Any]:
        """n samples of one prompt, with log-probabilities of the tokens drawn and of the best."""

        def choose(logits: jax.Array, key: jax.Array) -> jax.Array:
            token, *known = self.draw(logits, key, asked["temperature"], asked["top_p"])
            jax.device_get(known)
            return token

        return self._run(ids, count, n, choose)

    def _run(self, ids: list[int], count: int, rows: int, choose: Any) -> dict[str, Any]:
        c = self.config
        heads = c["num_key_value_heads"]
        shape = (rows, self.context, heads, c["hidden_size"] // c["num_attention_heads"])
        began = time.perf_counter()
        cache = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(c["num_hidden_layers"])]
        prompt = jnp.tile(jnp.asarray([ids]), (rows, 1))
        logits, cache = self.step(self.weights, prompt, jnp.asarray(0), cache)
        made, first, key = [], 0.0, jax.random.key(0)
        for place in range(len(ids), len(ids) + count):
            key, mine = jax.random.split(key)
            token = choose(logits, mine)
            made.append(token.tolist())
            first = first or time.perf_counter()
            if len(made) < count:
                logits, cache = self.step(self.weights, token[:, None], jnp.asarray(place), cache)
        return {
            "tokens": [row[0] for row in made],
            "made": sum(map(len, made)),
            "first": first - began,
            "seconds": time.perf_counter() - began,
        }

    def _step(self, w: dict[str, jax.Array], ids: jax.Array, start: jax.Array, cache: Any) -> Any:
        """Tokens `[B, T]` at `start` -> logits of the last ones `[B, V]`, and the cache."""
        c = self.config
        x, new = w["model.embed_tokens.weight"][ids], []
        for i, (keys, values) in enumerate(cache):
            name = f"model.layers.{i}"
            y = norm(x, w[f"{name}.input_layernorm.weight"], c["rms_norm_eps"])
            y, keys, values = self._attend(w, f"{name}.self_attn", y, start, keys, values)
            new.append((keys, values))
            x = x + y
            y = norm(x, w[f"{name}.post_attention_layernorm.weight"], c["rms_norm_eps"])
            gate = jax.nn.silu(y @ w[f"{name}.mlp.gate_proj.weight"].T)
            up = y @ w[f"{name}.mlp.up_proj.weight"].T
            x = x + (gate * up) @ w[f"{name}.mlp.down_proj.weight"].T
        last = norm(x[:, -1], w["model.norm.weight"], c["rms_norm_eps"])
        return last @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T, new

    def _attend(self, w: Any, name: str, x: Any, start: Any, keys: Any, values: Any) -> Any:
        c = self.config
        heads, shared = c["num_attention_heads"], c["num_key_value_heads"]
        batch, length, _ = x.shape
        q, k, v = (
            (x @ w[f"{name}.{p}_proj.weight"].T).reshape(batch, length, n, -1)
            for p, n in (("q", heads), ("k", shared), ("v", shared))
        )
        at = start + jnp.arange(length)
        q, k = rotate(q, at, c["rope_theta"]), rotate(k, at, c["rope_theta"])
        keys = jax.lax.dynamic_update_slice(keys, k, (0, start, 0, 0))
        values = jax.lax.dynamic_update_slice(values, v, (0, start, 0, 0))
        q = q.reshape(batch, length, shared, heads // shared, -1)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, keys) * q.shape[-1] ** -0.5
        seen = jnp.arange(keys.shape[1])[None, :] <= at[:, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("bkgts,bskd->btkgd", weights, values).reshape(batch, length, -1)
        return mixed @ w[f"{name}.o_proj.weight"].T, keys, values


def norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """RMS norm over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon) * scale


def rotate(x: jax.Array, at: jax.Array, theta: float) -> jax.Array:
    """Rotary embedding of `[B, T, N, K]`: feature i pairs with feature i + K/2."""
    half = x.shape[-1] // 2
    angles = at[:, None] * theta ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def draw(logits: jax.Array, key: jax.Array, temperature: float, top_p: float) -> Any:
    """Tokens `[B]` by temperature and top-p with a sort, and log-probabilities: the tokens' own,
    and the ids and values of the best five."""
    known = jax.nn.log_softmax(logits)
    scaled = logits / temperature
    order = jnp.argsort(-scaled, axis=-1)
    ranked = jnp.take_along_axis(jax.nn.softmax(scaled), order, axis=-1)
    kept = jnp.cumsum(ranked, axis=-1) - ranked < top_p
    place = jax.random.categorical(key, jnp.where(kept, jnp.log(ranked), -jnp.inf))
    token = jnp.take_along_axis(order, place[:, None], axis=-1)[:, 0]
    own = jnp.take_along_axis(known, token[:, None], axis=-1)[:, 0]
    return token, own, *jax.lax.top_k(known, 5)
