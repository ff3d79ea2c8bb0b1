"""`compare`: whatever two things a user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.errors import InvalidRequest
from toolkit.experiments.compare.comparison import Comparison
from toolkit.experiments.compare.prompts import PROMPTS
from toolkit.experiments.compare.targets import Metric, Plan, evidence
from toolkit.experiments.run import Run, open_run
from toolkit.experiments.target.named import as_target


def compare(
    a: Any,
    b: Any,
    prompts: Sequence[str] | str | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    parameters_b: Mapping[str, Any] | None = None,
    max_tokens: int = 32,
    samples: int = 24,
    sample_tokens: int = 8,
    metrics: Mapping[str, Metric] | None = None,
    alpha: float = 0.001,
    seed: int = 0,
    probe: bool = True,
    names: tuple[str, str] | None = None,
) -> Comparison:
    """Say whether two targets, two settings of one, or two runs differ, and why.

    `a`, `b`: loaded models, `Remote`s, running servers or addresses; or two run folders. `prompts`:
    texts; None takes a dozen. `parameters`: what samples are drawn with, and `parameters_b` those
    of `b` where they differ; None draws with temperature 1, with nothing said, and with `top_p`
    0.8. `max_tokens`: of greedy texts. `samples`, `sample_tokens`: completions a prompt, and their
    length. `metrics`: names and functions of prompt and completion. `alpha`: largest probability of
    any false alarm among all tests of samples. `seed`: of the draws. `probe`: whether to examine
    the behaviour of both as well.

    In order: tokenisation; the same ids scored by both; greedy texts; samples, by Fisher's or a
    permutation test for the first tokens of each prompt and a kernel test for whole texts,
    corrected by Holm's method; metrics; speed. Two runs are compared as far as they recorded the
    same.

    Raises InvalidRequest for arguments out of range, TargetError where nobody answers.
    """
    first, second = _run(a), _run(b)
    if first is not None and second is not None:
        from toolkit.experiments.compare.runs import evidence_of_runs

        level = _level(alpha)
        return Comparison(evidence_of_runs(first, second, alpha=level, seed=seed, names=names))
    if first is not None or second is not None:
        message = "`a` and `b` must both be runs, or neither: a recorded run cannot be asked again."
        raise InvalidRequest(f"{message} Use `toolkit.replay` for that.", param="b")
    plan = Plan(
        prompts=_prompts(prompts),
        parameters=_parameters(parameters, parameters_b),
        max_tokens=_count("max_tokens", max_tokens, 1),
        samples=_count("samples", samples, 2),
        sample_tokens=_count("sample_tokens", sample_tokens, 1),
        metrics=dict(metrics or {}),
        alpha=_level(alpha),
        seed=seed,
        probe=probe,
    )
    one, other = as_target(a), as_target(b)
    try:
        return Comparison(evidence(one, other, plan, names or _names(one.name, other.name)))
    finally:
        for made, given in ((one, a), (other, b)):
            if made is not given:
                made.close()


def _run(what: Any) -> Run | None:
    """The run that is meant, by itself or by its folder; None for anything else."""
    if isinstance(what, Run):
        return what
    if isinstance(what, Path) or (isinstance(what, str) and "://" not in what):
        return open_run(what)
    return None


def _names(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a != b else ("A", "B")


def _prompts(given: Sequence[str] | str | None) -> tuple[str, ...]:
    listed = PROMPTS if given is None else (given,) if isinstance(given, str) else tuple(given)
    for prompt in listed:
        if not isinstance(prompt, str) or not prompt:
            message = f"`prompts` holds {prompt!r:.80}, which is no text."
            raise InvalidRequest(f"{message} Give non-empty strings.", param="prompts")
    if not listed:
        raise InvalidRequest("`prompts` is empty. Give one or more.", param="prompts")
    return listed


def _parameters(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    if first is None and second is None:
        return None
    one = dict(first or {})
    return one, {**one, **(second or {})}


def _count(name: str, value: int, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InvalidRequest(
            f"`{name}` must be a whole number, {low} or more; got {value!r:.40}.", param=name
        )
    return value


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise InvalidRequest(
            f"`alpha` must be between 0 and 1, got {alpha!r:.40}. Use 0.001.", param="alpha"
        )
    return alpha
