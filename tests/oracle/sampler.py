"""The sampler of the completion contract in float64 NumPy: as plain as possible, for tests only.

Written from the contract alone. Whatever the compiled sampler does must equal this up to float32
rounding. Two things say how near a result was to another one: `margin`, the distance of the closest
decision from going the other way, and `noise`, how far float32 may move it. A test compares ids
where `margin > noise` and leaves the rest alone.

Pipeline: raw log-softmax (reported) -> + logit_bias -> repetition penalty -> frequency and presence
penalty -> guide and min_tokens mask -> temperature -> top_k -> top_p -> min_p -> typical_p -> draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from toolkit.sampling.params import SamplingParams

BLOCK = 256
"""Ids in one block of the two-level draw."""

ROUNDING = 2.0**-24
"""Largest relative error of one float32 rounding."""


class NothingToDraw(ValueError):
    """The masks leave no token that the model gives a probability above zero."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distribution:
    """What may be drawn at one position and why; arrays are `[V]`, float64 unless said."""

    raw_logprobs: np.ndarray
    """Log-softmax of the raw logits, nats: the only thing reported as a logprob."""
    edited: np.ndarray
    """Logits after bias and penalties, before masks."""
    bias: np.ndarray
    """Added to the raw logits."""
    penalty: np.ndarray
    """Subtracted after the bias: edited = raw + bias - penalty. Negative where it rewards."""
    tempered: np.ndarray
    """Probabilities after masks and temperature, before truncation."""
    probabilities: np.ndarray
    """What is drawn from, after everything; sums to 1."""
    dropped_by: list[str | None]
    """What excluded an id first: guide, min_tokens, temperature, top_k, top_p, min_p, typical_p."""
    rank: np.ndarray
    """1 for the largest raw logit; the lower id goes first among equals (int)."""
    entropy: float
    """Of the raw distribution, nats."""
    sampling_entropy: float
    """Of `probabilities`, nats."""
    support: int
    """Number of ids that nothing dropped and whose logit is finite, however improbable they are."""
    kept_mass: float
    """Raw probability of those ids together."""
    margin: float
    """Distance of the closest truncation from going the other way; inf where nothing is decided."""
    noise: float
    """How far float32 arithmetic may move a decision or a boundary of the draw."""

    @property
    def sampling_logprobs(self) -> np.ndarray:
        """Log of `probabilities`: `[V]`, nats, -inf for what cannot be drawn."""
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities)


def distribution(
    raw_logits: np.ndarray,
    params: SamplingParams,
    *,
    generated_ids: Sequence[int] = (),
    prompt_ids: Sequence[int] = (),
    allowed_ids: Sequence[int] | None = None,
) -> Distribution:
    """The whole pipeline for one position: raw logits `[V]` -> `Distribution`.

    `params.stop_ids` are held back while fewer than `min_tokens` ids are generated. `allowed_ids`
    None means no guide. Parameters are read as float32, like the rows of a batch.
    Raises `NothingToDraw`.
    """
    raw = np.asarray(raw_logits, np.float64)
    bias = bias_of(params, raw.size)
    edited = penalised(raw + bias, params, prompt_ids=prompt_ids, generated_ids=generated_ids)
    dropped: list[str | None] = [None] * raw.size
    if allowed_ids is not None:
        _drop(dropped, np.isin(np.arange(raw.size), list(allowed_ids)), "guide")
    if len(generated_ids) < params.min_tokens:
        _drop(dropped, ~np.isin(np.arange(raw.size), list(params.stop_ids)), "min_tokens")
    ids = _alive(dropped)
    if not np.isfinite(edited[ids]).any():
        raise NothingToDraw("No token can be drawn: the masks leave none with a finite logit.")

    temperature = single(params.temperature)
    margin, noise = np.inf, _noise(raw, raw + bias, edited, ids, temperature)
    plain = dataclasses.replace(params, presence_penalty=0.0)
    ways = [raw, raw + bias]
    for some in (dataclasses.replace(plain, frequency_penalty=0.0), plain):
        ways.append(penalised(ways[1], some, prompt_ids=prompt_ids, generated_ids=generated_ids))
    if _rounded_apart(edited[ids], np.stack(ways, axis=1)[ids]):
        margin = 0.0
    tempered = np.zeros(raw.size)
    for name in ("temperature", "top_k", "top_p", "min_p", "typical_p"):
        kept, distance = _STAGES[name](edited[ids], params)
        margin = min(margin, distance)
        _drop(dropped, np.isin(np.arange(raw.size), ids[kept]), name)
        ids = _alive(dropped)
        if name == "temperature":
            tempered[ids] = softmax(edited[ids], temperature)

    probabilities = np.zeros(raw.size)
    probabilities[ids] = softmax(edited[ids], temperature)
    raw_logprobs = log_softmax(raw)
    possible = ids[np.isfinite(edited[ids])]
    with np.errstate(invalid="ignore"):
        penalty = np.where(np.isfinite(raw), raw + bias - edited, 0.0)
    return Distribution(
        raw_logprobs=raw_logprobs,
        edited=edited,
        bias=bias,
        penalty=penalty,
        tempered=tempered,
        probabilities=probabilities,
        dropped_by=dropped,
        rank=rank(raw),
        entropy=entropy(np.exp(raw_logprobs)),
        sampling_entropy=entropy(probabilities),
        support=len(possible),
        kept_mass=float(np.exp(raw_logprobs[possible]).sum()),
        margin=margin,
        noise=noise,
    )


def bias_of(params: SamplingParams, vocab_size: int) -> np.ndarray:
    """`logit_bias` as an array `[V]`; 0 for ids without one."""
    bias = np.zeros(vocab_size)
    for token, value in params.logit_bias.items():
        bias[token] = single(value)
    return bias


def penalised(
    logits: np.ndarray,
    params: SamplingParams,
    *,
    prompt_ids: Sequence[int],
    generated_ids: Sequence[int],
) -> np.ndarray:
    """Repetition penalty, then the additive ones: `[V]` -> `[V]`.

    The first sees prompt and generated ids, the others count generated ids.
    """
    seen = np.isin(np.arange(logits.size), [*prompt_ids, *generated_ids])
    counts = np.bincount(np.asarray(generated_ids, np.int64), minlength=logits.size)
    factor = single(params.repetition_penalty)
    repeated = np.where(logits > 0, logits / factor, logits * factor)
    logits = np.where(seen, repeated, logits)
    return (
        logits
        - single(params.frequency_penalty) * counts
        - single(params.presence_penalty) * (counts > 0)
    )


def single(value: float) -> float:
    """The float32 nearest to a parameter; what is below its smallest normal number counts as 0."""
    rounded = float(np.float32(value))
    return rounded if abs(rounded) >= np.finfo(np.float32).tiny else 0.0


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Normalised log-probabilities, nats: `[V]` -> `[V]`."""
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities at a temperature (0 is read as 1), maximum subtracted first: `[V]` -> `[V]`."""
    with np.errstate(over="ignore"):
        weights = np.exp((logits - logits.max()) / (temperature or 1.0))
    return weights / weights.sum()


def entropy(probabilities: np.ndarray) -> float:
    """-sum p log p in nats, with 0 log 0 = 0."""
    p = probabilities[probabilities > 0]
    return float(-(p * np.log(p)).sum()) + 0.0


def rank(logits: np.ndarray) -> np.ndarray:
    """1 + larger logits + equal logits with a lower id: `[V]` -> int `[V]`."""
    ranks = np.empty(logits.size, np.int64)
    ranks[np.argsort(-logits, kind="stable")] = np.arange(1, logits.size + 1)
    return ranks


def draw(probabilities: np.ndarray, u_block: float, u_token: float) -> tuple[int, float]:
    """The exact inverse-CDF draw in two levels: `[V]` and two numbers in [0, 1) -> id and margin.

    Ids are cut into consecutive blocks of 256. The block is the first whose cumulative mass exceeds
    `u_block * total`; the token is the first in it whose cumulative mass exceeds `u_token` times
    the mass of the block.
    The margin is the smaller distance of the two numbers from a boundary beyond which another id
    would come, each as a share of its own level's mass.
    """
    p = np.asarray(probabilities, np.float64)
    masses = np.array([p[start : start + BLOCK].sum() for start in range(0, p.size, BLOCK)])
    block, block_margin = _invert(masses, u_block)
    token, token_margin = _invert(p[block * BLOCK : (block + 1) * BLOCK], u_token)
    return block * BLOCK + token, min(block_margin, token_margin)


def _invert(masses: np.ndarray, u: float) -> tuple[int, float]:
    """The first index whose cumulative share exceeds `u`, and the distance to a real boundary."""
    reached = np.cumsum(masses)
    reached = reached / reached[-1]
    index = int(np.argmax(reached > u))
    below = reached[index - 1] if index else 0.0
    lower = u - below if below > 0 else np.inf
    upper = reached[index] - u if reached[index] < 1 else np.inf
    return index, float(min(lower, upper))


# Each stage: logits of the ids still alive -> which of them stay (indices), and its margin.


def _temperature(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, float]:
    if single(params.temperature) > 0:
        return np.arange(logits.size), np.inf
    return _top(logits, 1)


def _top_k(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, float]:
    return _top(logits, params.top_k or logits.size)


def _top_p(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, float]:
    mass = softmax(logits, single(params.temperature))
    return _smallest_set(-logits, mass, logits, single(params.top_p))


def _min_p(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, float]:
    share = softmax(logits, single(params.temperature))
    share = share / share.max()
    wanted = single(params.min_p)
    if wanted == 0:
        return np.arange(logits.size), np.inf
    others = share[logits < logits.max()]
    margin = np.abs(others / wanted - 1).min() if others.size else np.inf
    return np.flatnonzero(share >= wanted), float(margin)


def _typical_p(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, float]:
    mass = softmax(logits, single(params.temperature))
    with np.errstate(divide="ignore"):
        surprise = -np.log(mass)
    return _smallest_set(np.abs(surprise - entropy(mass)), mass, logits, single(params.typical_p))


_STAGES = {
    "temperature": _temperature,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
}


def _top(logits: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """The `count` largest, lower ids first among equals."""
    order = np.argsort(-logits, kind="stable")
    return order[:count], _gap(-logits, logits, order, count)


def _smallest_set(
    key: np.ndarray, mass: np.ndarray, logits: np.ndarray, wanted: float
) -> tuple[np.ndarray, float]:
    """The shortest run by `key`, then id, with mass >= `wanted`: at least one; all from 1 on."""
    if wanted >= 1:
        return np.arange(key.size), np.inf
    order = np.argsort(key, kind="stable")
    reached = np.cumsum(mass[order])
    count = min(int(np.sum(reached < wanted)) + 1, key.size)
    margin = _gap(key, logits, order, count)
    if count > 1:
        margin = min(margin, wanted - reached[count - 2])
    if count < key.size:
        margin = min(margin, reached[count - 1] - wanted)
    return order[:count], float(margin)


def _gap(key: np.ndarray, logits: np.ndarray, order: np.ndarray, count: int) -> float:
    """How clearly the last one in precedes the first one out; equal logits are decided by id.

    Among equal logits only another logit that comes near theirs could change who is in.
    """
    if count >= order.size:
        return np.inf
    last, following = order[count - 1], order[count]
    tie = logits[last] == logits[following]
    others = key[logits != logits[last]] if tie else key[[following]]
    if not others.size or not np.isfinite(key[last]):
        return np.inf
    return float(np.abs(others - key[last]).min() / max(1.0, abs(key[last])))


def _rounded_apart(edited: np.ndarray, ways: np.ndarray) -> bool:
    """Whether logits that are equal here were reached in several ways, by rows of what they were
    before: in float32 they may differ by a rounding, and then their ids decide nothing."""
    values, inverse = np.unique(edited, return_inverse=True)
    several = len(np.unique(np.column_stack([inverse, ways]), axis=0)) > len(values)
    return len(values) < len(edited) and several


def _noise(
    raw: np.ndarray, biased: np.ndarray, edited: np.ndarray, ids: np.ndarray, temperature: float
) -> float:
    """Rounding of sums and, where another token is near enough to matter, of logits over T."""
    finite = ids[np.isfinite(edited[ids])]
    best = edited[finite].max()
    size = max(float(np.abs(values[finite]).max()) for values in (raw, biased, edited))
    behind = best - edited[finite]
    rivals = (behind > 0) & (behind < 40 * temperature + 8 * ROUNDING * size)
    steep = size / (temperature or 1.0) if rivals.any() else 0.0
    return ROUNDING * (64 + 8 * steep)


def _alive(dropped: list[str | None]) -> np.ndarray:
    return np.array([token for token, by in enumerate(dropped) if by is None], np.int64)


def _drop(dropped: list[str | None], keep: np.ndarray, name: str) -> None:
    for token in np.flatnonzero(~keep):
        dropped[token] = dropped[token] or name
