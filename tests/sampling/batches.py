"""Batches for the sampler, made of the oracle's single positions. Shapes depend on V and B only."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import HypothesisDeprecationWarning

from tests.oracle.strategies import Case
from toolkit.models.compiler import jit
from toolkit.sampling.drawn import Drawn
from toolkit.sampling.guide import Guide, GuideTables, pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.sample import sample
from toolkit.sampling.transforms import PIPELINE, History
from toolkit.sampling.variant import Variant

compiled = jit(sample, static_argnums=4)
"""`sample` as the engine runs it: one program for each vocabulary size, batch size and variant."""

NAMES = (
    *("logit_bias", "penalties", "guide", "min_tokens", "temperature", "greedy"),
    *("top_k", "top_p", "min_p", "typical_p"),
)
STAGES = {name: jit(stage.apply) for name, stage in zip(NAMES, PIPELINE, strict=True)}
"""The stages of the pipeline by the names of their functions."""

REPORT = Report(top=20, details=True)


def rows_of(*params: SamplingParams, report: Report = REPORT) -> Rows:
    """Rows that all ask for everything."""
    return Rows.stack(params, [report] * len(params))


def history_of(
    vocab_size: int,
    generated: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]] | None = None,
    nodes: Sequence[int] | None = None,
) -> History:
    """What rows with these completions, prompts and guide nodes have seen."""
    prompts = prompts or [()] * len(generated)
    counts = [np.bincount(np.asarray(ids, np.int64), minlength=vocab_size) for ids in generated]
    return _history(
        step=np.asarray([len(ids) for ids in generated], np.int32),
        counts=np.asarray(counts, np.int32),
        prompted=np.asarray([np.isin(np.arange(vocab_size), list(ids)) for ids in prompts]),
        node=np.asarray(nodes or [0] * len(generated), np.int32),
    )


def _history(**arrays: Any) -> History:
    """NumPy arrays where device arrays are declared: they become such when they are uploaded."""
    return History(**arrays)


def no_guide() -> GuideTables:
    """The tables of a batch without guides."""
    return pack([])[0]


def one_of(ids: Sequence[int]) -> Guide:
    """A guide that allows these ids and ends with any of them."""
    return Guide(edges=(dict.fromkeys(ids, 0),))


def apply(
    name: str,
    logits: Any,
    *params: SamplingParams,
    history: History | None = None,
    tables: GuideTables | None = None,
) -> np.ndarray:
    """One stage over the same logits `[V]` for each of the parameters, or over `[B, V]`."""
    rows = np.asarray(logits, np.float32)
    rows = np.broadcast_to(rows, (len(params), rows.shape[-1]))
    seen = history or history_of(rows.shape[1], [()] * len(params))
    return np.asarray(STAGES[name](rows, rows_of(*params), seen, tables or no_guide()))


def each(field: str, *values: float) -> list[SamplingParams]:
    """Parameters that differ in one field only."""
    return [dataclasses.replace(SamplingParams(), **{field: value}) for value in values]


def draw_cases(
    cases: Sequence[Case],
    variant: Variant,
    report: Report | Sequence[Report] = REPORT,
    *,
    program: Callable[..., Any] = compiled,
) -> Drawn:
    """One step of the compiled sampler over a batch of positions, as NumPy arrays. `report`: of all
    positions, or one for each."""
    vocab_size = cases[0].logits.size
    guides = [one_of(case.allowed_ids or []) for case in cases]
    tables, starts = pack(guides)
    nodes = [
        start if case.allowed_ids is not None else 0
        for case, start in zip(cases, starts, strict=True)
    ]
    history = history_of(
        vocab_size,
        [case.generated_ids for case in cases],
        [case.prompt_ids for case in cases],
        nodes,
    )
    logits = np.stack([case.logits for case in cases])
    reports = [report] * len(cases) if isinstance(report, Report) else report
    rows = Rows.stack([case.params for case in cases], reports)
    return jax.device_get(program(logits, rows, history, tables, variant))


def gather(strategy: st.SearchStrategy, count: int) -> list[Any]:
    """That many examples, the same ones in each run, to be checked together in one batch."""
    found: list[Any] = []

    @hypothesis.settings(
        max_examples=count,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    run: Callable[[], None] = collect
    with warnings.catch_warnings():
        # Threads that other tests have left may draw from `random` meanwhile; the strategy does
        # not.
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        run()
    return found
