"""Products, attention and the sampler in compiled C, for float32 on a CPU, and products with 8-bit
weights: an optional extra, `[kernels]`.

Why: XLA's product of a few rows with a kernel takes up to twice as long as reading the kernel once,
one row alone has other bits than among others, and between the products of a step one core waits
for the other. Here a row has the same bits in every batch, by construction, so that strict mode
costs nothing. Of a product in 8 bits XLA spends as long on finding the digits as on their sums; a
draw is a dozen passes over the logits, each through memory, where here a row stays near its core.
Without the extra everything runs in XLA alone.

    source/      the C code: a team of threads, the operations, what XLA calls
    library.py   compiles it once for this processor, and hands it to JAX
    calls.py     the operations, as JAX functions
"""

from toolkit.kernels.calls import (
    LANES,
    MOST_LARGEST,
    Drawing,
    Edits,
    Operation,
    attention,
    count,
    draw,
    edit,
    fit,
    gated,
    largest,
    moments,
    norm,
    product,
    rounded_product,
    using,
)
from toolkit.kernels.library import few_rows, has_many, prepare, rounded_rows, wanted

__all__ = [
    "LANES",
    "MOST_LARGEST",
    "Drawing",
    "Edits",
    "Operation",
    "attention",
    "count",
    "draw",
    "edit",
    "few_rows",
    "fit",
    "gated",
    "has_many",
    "largest",
    "moments",
    "norm",
    "prepare",
    "product",
    "rounded_product",
    "rounded_rows",
    "using",
    "wanted",
]
