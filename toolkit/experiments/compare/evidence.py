"""What a comparison has seen, stage by stage; the verdict and the pictures are made of it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.experiments.probe import Probe
from toolkit.experiments.statistics import CountTest, KernelTest, PairedDifference

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenised:
    """One prompt as both tokenise it; None where nobody tells."""

    prompt: str
    ids_a: Sequence[int] | None
    ids_b: Sequence[int] | None
    used_a: int | None = None
    """Tokens that A says it read."""
    used_b: int | None = None

    @property
    def same(self) -> bool | None:
        """Whether the ids are equal; None if one of them is unknown."""
        if self.ids_a is None or self.ids_b is None:
            return None
        return list(self.ids_a) == list(self.ids_b)

    @property
    def added(self) -> int | None:
        """Tokens that B puts in front of A's ids (negative: A in front of B's); None if that is not
        the difference."""
        if self.ids_a is None or self.ids_b is None:
            return None
        a, b = list(self.ids_a), list(self.ids_b)
        more = len(b) - len(a)
        inner, outer = (a, b) if more >= 0 else (b, a)
        return more if outer[abs(more) :] == inner else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """One token of a text that both scored: teacher forcing, the same ids in front of it."""

    prompt_index: int
    position: int
    token: bytes
    logprob_a: float
    logprob_b: float
    same_best: bool | None
    """Whether both have the same likeliest token; None where one does not tell."""
    divergence: float
    """Lower bound of KL(A || B) at this position, in nats: over the tokens that both show, and the
    rest together."""

    @property
    def difference(self) -> float:
        """B minus A, in nats."""
        return self.logprob_b - self.logprob_a


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy:
    """One prompt decoded greedily by both."""

    prompt_index: int
    agreed: int
    """Tokens that are the same from the start."""
    length_a: int
    length_b: int
    same: bool
    """Whether all of both texts is the same."""
    gap: float
    """At the first split: A's log-probability of A's token over that of B's, in nats. Near 0 it was
    a tie that rounding decides; NaN where there is no split or A does not show B's token."""
    text_a: str
    text_b: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampled:
    """Completions drawn under one setting, and the tests of them."""

    setting: str
    fields_a: Mapping[str, Any]
    fields_b: Mapping[str, Any]
    texts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    """For each prompt the texts of A and of B."""
    kernel: KernelTest
    counts: tuple[CountTest, ...]
    """For each prompt the test of its first tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """How fast one target answered, one request at a time. Medians over prompts."""

    first_token: float | None
    tokens_per_second: float | None
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was seen. Stages that could not be done are empty."""

    name_a: str
    name_b: str
    prompts: tuple[str, ...]
    tokenised: tuple[Tokenised, ...] = ()
    scored: tuple[Scored, ...] = ()
    """Of ids where both take them, else of text."""
    as_text: tuple[Scored, ...] = ()
    """Of prompts sent as text."""
    lead: int | None = None
    """A token that, put in front of the text by hand, makes A score as B does."""
    greedy: tuple[Greedy, ...] = ()
    sampled: tuple[Sampled, ...] = ()
    metrics: Mapping[str, PairedDifference] = dataclasses.field(default_factory=dict)
    timing: tuple[Timing, Timing] | None = None
    probes: tuple[Probe, Probe] | None = None
    contradicting: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Targets whose scores of a given text are not those of the same text generated, and by how
    much, in nats; their scores of given texts are not used."""
    notes: tuple[str, ...] = ()
    """What could not be done, and why."""
    alpha: float
    settings_differ: tuple[str, ...] = ()
    """Parameters that were asked of the two with different values."""

    def tokens_frame(self) -> pd.DataFrame:
        """One row a scored token: both log-probabilities, their difference, whether the best token
        is the same, and the bound of the divergence."""
        import pandas as pd

        rows = [
            {
                "prompt_index": s.prompt_index,
                "position": s.position,
                "token": s.token.decode(errors="replace"),
                "logprob_a": s.logprob_a,
                "logprob_b": s.logprob_b,
                "difference": s.difference,
                "same_best": s.same_best,
                "divergence": s.divergence,
            }
            for s in self.scored
        ]
        columns = [
            "prompt_index", "position", "token", "logprob_a", "logprob_b", "difference",
            "same_best", "divergence",
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"same_best": "boolean", "token": "str"})

    @property
    def differences(self) -> np.ndarray:
        """B minus A of each scored token."""
        return np.array([s.difference for s in self.scored])
