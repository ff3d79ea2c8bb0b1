"""Sums that name what decides an engine's answers."""

from __future__ import annotations

import hashlib
import threading
import weakref

import jax
import numpy as np

from toolkit.completion.text import Tokenizer
from toolkit.engine.engine import Engine

_known: weakref.WeakKeyDictionary[Engine, str] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def weights_sum(engine: Engine) -> str:
    """Sum of the weights as the device holds them, shapes and dtypes included: 32 hex digits.

    A second for 500 MB, once for each engine. One changed bit gives another sum, and so does
    another dtype; where the files lie and how they were stored does not matter.
    """
    with _lock:
        if engine not in _known:
            _known[engine] = _sum(engine)
        return _known[engine]


def _sum(engine: Engine) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(engine.config).encode())
    for leaf in engine.leaves:
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return digest.hexdigest()


def tokenizer_sum(tokenizer: Tokenizer) -> str:
    """Sum of the tokenizer's file and of what the other files say of special tokens: 32 hex
    digits.
    """
    s = tokenizer.specials
    declared = [s.bos_id, sorted(s.eos_ids), s.prefix_ids, s.start_id, sorted(s.special_ids), s.fim]
    text = f"{tokenizer.fingerprint} {tokenizer.vocab_size} {declared}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
