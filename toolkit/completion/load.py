"""From a model's name to an `LM`, and the functions that use a model loaded before."""

from __future__ import annotations

import hashlib
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from toolkit import kernels as library
from toolkit.completion.complete import LM
from toolkit.completion.counts import check_count
from toolkit.completion.parameters import Parameters
from toolkit.completion.record import Completion
from toolkit.completion.request import DEFAULT_LIMITS, Limits
from toolkit.completion.run import Stream
from toolkit.completion.shapes import StrictChunk
from toolkit.completion.text import Tokenizer
from toolkit.engine import scheduler
from toolkit.engine.engine import Engine
from toolkit.engine.programs import keep_programs
from toolkit.engine.shared import SharedEngine
from toolkit.errors import InvalidRequest, UnsupportedModel
from toolkit.models import adapter as adapters
from toolkit.models import catalog, checkpoint
from toolkit.models.config import ModelConfig
from toolkit.models.decoder import holds_bits
from toolkit.models.prepared import sha256
from toolkit.models.sharding import Split

DTYPES = ("float32", "bfloat16", "float16")
_loaded: dict[str, LM] = {}
_lock = threading.Lock()


def load(
    model: str | Path | None = None,
    *,
    dtype: str | None = None,
    quant: str | None = None,
    adapter: str | Path | None = None,
    context: int | None = None,
    max_batch: int = 64,
    max_waiting: int = 4096,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    prefix_bytes: int = 2**28,
    mesh: Mapping[str, int] | None = None,
    kernels: bool | None = None,
) -> LM:
    """Load a model onto the device, or onto several.

    `model`: None or "smollm2-135m-instruct" for the embedded default, a Hugging Face folder, a
    `.gguf` file, or a hub id. `dtype`: of the weights and the cache; None is float32 on CPU,
    bfloat16 elsewhere; logits and all that follows are float32 always. `quant`: "int8" for
    projections in 8-bit whole numbers, faster on CPU and less exact (`toolkit quality` says how
    much). `adapter`: the folder of a LoRA adapter, merged into the weights. `context`: most tokens
    of prompt and completion together; None is what the model was made for, at most 8192.
    `max_batch`: sequences that run together. `max_waiting`: sequences that may wait for that; a
    request that brings more raises QueueFull. `strict`: a request gives the same bits whatever runs
    beside it, and at most 32 run together. `prefix_bytes`: memory for prompts that may come again.
    `mesh`: devices to divide the model among, such as {"data": 2, "model": 4}: rows of the batch
    over "data", heads, hidden features and vocabulary over "model"; None is one device. `kernels`:
    products, attention and the sampler in compiled C (extra [kernels]), on one CPU; None is yes
    where they are installed and fit, unless the environment variable TOOLKIT_KERNELS is "off".

    Raises InvalidRequest for arguments out of range, FetchError, CheckpointError and
    UnsupportedModel for a model that cannot be had, each with what to do about it.
    """
    _check_model(model)
    check_count("max_batch", max_batch, 1, scheduler.ROWS[-1])
    check_count("max_waiting", max_waiting, 1, sys.maxsize)
    check_count("prefix_bytes", prefix_bytes, 0, sys.maxsize)
    if context is not None:
        check_count("context", context, 1, sys.maxsize)
    folder = catalog.resolve(model)
    keep_programs(catalog.models_directory().parent / "programs")
    config = checkpoint.quantised(checkpoint.load_config(folder), quant)
    split = Split.of(config, mesh)
    if strict and split is not None and split.model > 1:
        raise InvalidRequest(
            f"`strict` cannot hold with `mesh` model={split.model}: the order in which devices add "
            "their parts is not fixed. Leave `strict` out, or use 'data' only.",
            param="strict",
        )
    compiled = _kernels(kernels, _dtype(dtype), split)
    extent: Literal["decoding", "short"] = "decoding" if strict else "short"
    decoder = checkpoint.load(
        folder,
        dtype=_dtype(dtype),
        quant=quant,
        adapter=adapter,
        split=split,
        kernels=extent if compiled else None,
        strict=strict,
    )
    room = min(config.context, 8192 if context is None else context)
    engine = (SharedEngine if split and jax.process_count() > 1 else Engine)(
        decoder,
        limits=_rows(max_batch, strict, 1 if split is None else split.data, room, decoder.config),
        split=split,
        prefix_bytes=prefix_bytes,
        max_waiting=max_waiting,
    )
    tokenizer = Tokenizer.from_folder(folder, vocab_size=config.vocab_size)
    name = catalog.DEFAULT if model is None else str(model)
    fingerprint = _fingerprint(folder, tokenizer, quant, adapter)
    lm = LM(engine, tokenizer, name=name, fingerprint=fingerprint, limits=limits)
    weakref.finalize(lm, engine.stop)  # a model that nobody holds any more ends its thread
    return lm


def _check_model(model: object) -> None:
    if not isinstance(model, str | Path | None):
        message = f"`model` must be a name or a path, got {model!r:.80}."
        raise InvalidRequest(f"{message} None is the embedded default.", param="model")


def _rows(
    max_batch: int, strict: bool, groups: int, context: int, config: ModelConfig
) -> scheduler.Limits:
    """Each of the groups of devices that hold rows of their own has as many as one alone would."""
    return scheduler.Limits(
        max_rows=min(max_batch, scheduler.STRICT_ROWS * groups) if strict else max_batch,
        strict=strict,
        min_rows=(2 if strict and not holds_bits(config) else 1) * groups,
        groups=groups,
        context=context,
    )


def _kernels(asked: bool | None, dtype: np.dtype, split: Split | None) -> bool:
    """Whether the model computes with kernels, which are then prepared."""
    if asked not in (None, True, False):
        raise InvalidRequest(
            f"`kernels` is True, False or None, got {asked!r}. None uses them where they are "
            "installed and fit.",
            param="kernels",
        )
    fits = dtype == np.float32 and split is None
    if asked and not fits:
        raise InvalidRequest(
            f"`kernels` True is for `dtype` float32 on one device, got {dtype} and "
            f"{'a mesh' if split else 'one device'}. Leave `kernels` out.",
            param="kernels",
        )
    if not (fits and library.wanted(asked)):
        return False
    try:
        library.prepare(catalog.models_directory().parent / "kernels")
    except UnsupportedModel as error:
        if asked:
            raise
        warnings.warn(str(error), UserWarning, stacklevel=3)
        return False
    return True


def _dtype(name: str | None) -> np.dtype:
    if name is None:
        return np.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    if name not in DTYPES:
        raise UnsupportedModel(
            f"`dtype` {name!r} is not one of {', '.join(DTYPES)}. Use one of them."
        )
    return np.dtype(jnp.dtype(name))


def _fingerprint(
    folder: Path, tokenizer: Tokenizer, quant: str | None, adapter: str | Path | None
) -> str:
    """Names the files of a model: sizes of the weights, the configuration, the tokenizer's sum,
    and what changes the weights."""
    digest = hashlib.blake2b(digest_size=8)
    if quant is not None:
        digest.update(quant.encode())
    if adapter is not None:
        digest.update(sha256(Path(adapter).expanduser() / adapters.WEIGHTS).encode())
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            digest.update(f"{path.name} {path.stat().st_size}".encode())
        elif path.name in ("config.json", "manifest.json"):
            digest.update(path.read_bytes())
    digest.update(tokenizer.fingerprint.encode())
    return f"fp_{digest.hexdigest()}"


def loaded(model: str | None) -> LM:
    """The model of this name, loaded on first use and kept."""
    _check_model(model)
    name = model or catalog.DEFAULT
    with _lock:
        if name not in _loaded:
            _loaded[name] = load(name)
        return _loaded[name]


def complete(prompt: Any, **parameters: Unpack[Parameters]) -> Completion:
    """`LM.complete` on the model that `model` names, the embedded default if none; it stays
    loaded."""
    return loaded(parameters.get("model")).complete(prompt, **parameters)


def stream(prompt: Any, **parameters: Unpack[Parameters]) -> Stream[StrictChunk]:
    """`LM.stream` on the model that `model` names, the embedded default if none; it stays
    loaded."""
    return loaded(parameters.get("model")).stream(prompt, **parameters)
