"""Which work a compiled sampling step contains."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from toolkit.sampling.params import Rows
from toolkit.sampling.transforms import PIPELINE, History

TOP = 20
"""Alternatives that every program can report; more make another program."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Which work a compiled step contains.

    A guarded step contains all of it and skips at run time what no row asks for: one program for
    every mix of requests (CPU). On a GPU a run-time choice stalls the device, so there a step holds
    what its batch needs and nothing is guarded.
    """

    stages: frozenset[str] = frozenset(stage.name for stage in PIPELINE)
    top: int = TOP
    details: bool = True
    guarded: bool = True

    @classmethod
    def needed(cls, rows: Rows, guided: Sequence[bool], *, top: int) -> Variant:
        """The least that serves these rows (NumPy arrays), now and in their later steps."""
        count = len(guided)
        nothing = jnp.zeros((count, 0), jnp.int32)
        history = History(
            step=jnp.zeros((count,), jnp.int32),
            counts=nothing,
            prompted=nothing > 0,
            node=jnp.asarray(guided, jnp.int32),
        )
        stages = frozenset(
            stage.name for stage in PIPELINE if bool(jnp.any(stage.active(rows, history)))
        )
        return cls(stages=stages, top=top, details=bool(np.any(rows.details)), guarded=False)
