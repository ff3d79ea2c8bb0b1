"""How XLA compiles the network and the sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

ONLY_DOTS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
"""XLA's library for products on CPU (YNNPACK) gets each product by itself.

XLA also gives it the reductions and exponentials around a product, and there jaxlib 0.10.2 to
0.12.0 go wrong: the sum of `exp(x - max(x))` by a product with ones comes out as 1e32. Which
operations it gets depends on the sizes, and its exponential has other bits than XLA's, so that a
row would differ with the rows beside it.
"""

WIDE = {"xla_cpu_prefer_vector_width": 512}
"""The widest vectors: 5 % faster where memory is the limit, and without effect on processors that
lack them."""


def jit(function: Callable[..., Any], *, decoding: bool = False, **settings: Any) -> Callable:
    """`jax.jit(function, **settings)`, compiled so that a row has the same bits among any others.
    `decoding` is for the step of one token a row."""
    if jax.default_backend() == "cpu":
        settings["compiler_options"] = ONLY_DOTS | (WIDE if decoding else {})
    return jax.jit(function, **settings)
