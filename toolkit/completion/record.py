"""What one answer is: the record beside the specification's dict, and the dict that carries it.

A record is complete: every serialiser, frame, plot and replay works from it alone. Its
log-probabilities are in nats. `logprob` is always the model's own distribution, before bias,
penalties, temperature and truncation; `sampling_logprob` is the one that the token was drawn from.
"""

from __future__ import annotations

import builtins
import copy
import dataclasses
from typing import Any, Literal

from toolkit.completion.request import CompletionRequest


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """A token that could have stood at a position."""

    id: int
    bytes: builtins.bytes
    """Its true bytes; of a special token, those of its surface string."""
    logprob: float
    """Under the model's own distribution; -inf where the model rules it out."""
    sampling_logprob: float | None = None
    """Under the distribution drawn from: -inf for a dropped token, None where nothing was drawn."""
    dropped_by: str | None = None
    """The transform that ruled it out (`top_p`, `guided_choice`, ...), if that was asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TokenRecord:
    """One token of a prompt or of a completion, and what is known about its position."""

    id: int
    bytes: builtins.bytes
    """Its true bytes; of a special token, those of its surface string."""
    segment: Literal["prompt", "completion"]
    offset: int
    """Code point of the returned text with its first byte; runs on past the end after a cut."""
    logprob: float | None
    """Under the model's own distribution; None for a first token that nothing conditions."""
    sampling_logprob: float | None = None
    """Under the distribution drawn from; None for tokens of a prompt."""
    rank: int | None = None
    """1 for the model's most likely token, by `logprob`. Legacy `prompt_logprobs` show it."""
    entropy: float | None = None
    """Of the model's own distribution, in nats."""
    sampling_entropy: float | None = None
    """Of the distribution drawn from, in nats."""
    support: int | None = None
    """How many tokens could be drawn."""
    kept_mass: float | None = None
    """The model's own probability of the tokens that could be drawn, 0 to 1."""
    bias: float | None = None
    """What `logit_bias` added to its logit."""
    penalty: float | None = None
    """What the penalties took off its logit."""
    top: tuple[Alternative, ...] = ()
    """The best alternatives, best first, equals by id: by `logprob`, with processed logprobs by
    `sampling_logprob`. At least as many as the request asks for (or all there are)."""
    contributes: bool = True
    """At least one of its bytes is in the text; not so for EOS and what a stop cut off whole."""
    special: bool = False
    """One of the tokenizer's special tokens, as EOS is: shown by its surface string."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceRecord:
    """One candidate for one prompt."""

    index: int
    """Place in the answer: prompt by prompt, best first."""
    prompt_index: int
    candidate: int
    """Its number in the random draw; only `best_of` lets it differ from the place in the prompt."""
    text: str
    """As returned: echoed prompt, completion, appended suffix."""
    echoed: str = ""
    completion: str
    suffix: str = ""
    """What was appended; empty when the model infilled."""
    inserted: int = 0
    """How many leading ids of the prompt the server put there (a BOS): in no text and no arrays."""
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """The whole prompt, if `prompt_logprobs` or `echo` with `logprobs` asked for scores."""
    tokens: tuple[TokenRecord, ...]
    """Every sampled token, EOS and those that formed a stop included."""
    finish_reason: Literal["stop", "length"]
    stop_reason: str | int | None = None
    """The stop string or stop token id that ended it; None for EOS, a guided choice and length."""
    mean_logprob: float | None
    """Mean `logprob` of all sampled tokens, by which `best_of` ranks; None if there are none."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens that went into the model and came out of it."""

    prompt_tokens: int
    """Ids as the model saw them, BOS included, once for each prompt."""
    completion_tokens: int
    """Sampled tokens of all candidates, also of those that `best_of` rejected."""

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Where the time of a request went, in seconds since it was submitted unless said otherwise."""

    queue: float
    """Until its first prompt entered the device."""
    prefill: float
    """Spent on reading the prompts."""
    first_token: float | None
    """Until the first sampled token; None if there was none."""
    total: float
    tokens_per_second: float | None
    """Sampled tokens of all candidates over the time after the first one; None if undefined."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CompletionRecord:
    """One answer, complete: what was asked, what was drawn, what came back and how long it took."""

    id: str
    """`cmpl-` and something unique."""
    created: int
    """Seconds since the epoch."""
    model: str
    request: CompletionRequest
    seed: int
    """The seed used: the request's own, or the one drawn for it."""
    prompts: tuple[tuple[int, ...], ...]
    """Token ids as the model saw them."""
    choices: tuple[ChoiceRecord, ...]
    """What is returned, in index order."""
    rejected: tuple[ChoiceRecord, ...] = ()
    """The candidates that lost under `best_of`."""
    usage: Usage
    timings: Timings
    system_fingerprint: str | None = None
    """Names the weights and the program: equal fingerprints and seeds give equal texts."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamHead:
    """What all events of a stream share, known before the first."""

    id: str
    created: int
    model: str
    request: CompletionRequest
    system_fingerprint: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceDelta:
    """What one event of a stream adds to one choice.

    All deltas of a choice together hold each entry of the whole answer once and in order. With
    `echo` and `logprobs` the tokens of the prompt, without `inserted` ones, come with the first.
    """

    index: int
    text: str = ""
    strict: tuple[TokenRecord, ...] = ()
    """Tokens whose place in the text is settled now and which contribute to it."""
    legacy: tuple[TokenRecord, ...] = ()
    """Tokens sampled since, whether their text is held back or not."""
    legacy_before: int = 0
    """How many legacy tokens earlier deltas of this choice held."""
    prompt_ids: tuple[int, ...] | None = None
    """The prompt as the model saw it: on the first delta of a choice, None on later ones."""
    inserted: int = 0
    """How many leading `prompt_ids` the server put there."""
    finish_reason: Literal["stop", "length"] | None = None
    """On the last delta of a choice only."""
    stop_reason: str | int | None = None


class Completion(dict[str, Any]):
    """The specification's completion, a dict, with everything that it has no room for in `record`.

    It equals, prints and serialises as the plain dict. Copies and pickles keep the record.
    """

    record: CompletionRecord

    def __init__(self, shape: Any, record: CompletionRecord):
        super().__init__(shape)
        self.record = record

    def copy(self) -> Completion:
        """A shallow copy with the same record."""
        return copy.copy(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What Jupyter shows: text, heat map and a line of facts; plain text in a terminal.

        `include` and `exclude` are for the caller to apply; both forms are always there.
        """
        # Not at the top: pandas is not on the way to a first token.
        from toolkit.analysis import card

        return {"text/plain": card.answer_text(self), "text/html": card.answer_html(self)}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same plain text: IPython would prefer its own way with a dict."""
        from toolkit.analysis import card

        printer.text(card.answer_text(self))
