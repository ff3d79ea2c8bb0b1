"""One sequence on its way from drawn tokens to a choice: text, stops, offsets, records."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

from toolkit.completion.record import Alternative, ChoiceDelta, ChoiceRecord, TokenRecord
from toolkit.completion.request import CompletionRequest, Dialect
from toolkit.completion.text import ChoiceText, Tokenizer
from toolkit.engine.job import Ended, Job, PromptScores, Ticket, TokenEvent
from toolkit.sampling.drawn import DROPPED_BY


@dataclasses.dataclass
class PromptPart:
    """A prompt as it went to the model, shared by its candidates."""

    index: int
    ids: tuple[int, ...]
    inserted: int
    """Leading ids that stand for no text of the prompt (a BOS)."""
    text: str
    """What `echo` returns: the string itself, or the decoded ids up to their last whole
    character."""
    dangling: bytes
    """Bytes of a character that the prompt begins and the completion may end."""
    offsets: tuple[int, ...]
    """For each id the code point of `text` that its first byte belongs to."""
    tokens: tuple[TokenRecord, ...] = ()
    """Filled when the prompt was scored."""

    def score(self, scores: PromptScores, tokenizer: Tokenizer, *, top: int) -> None:
        """Note the model's view of each token, with `top` alternatives; nothing conditions the
        first."""
        first = TokenRecord(
            id=self.ids[0],
            bytes=tokenizer.token_bytes(self.ids[0]),
            segment="prompt",
            offset=self.offsets[0],
            logprob=None,
            special=self.ids[0] in tokenizer.special_ids,
        )
        rest = (
            TokenRecord(
                id=token,
                bytes=tokenizer.token_bytes(token),
                segment="prompt",
                offset=self.offsets[i + 1],
                logprob=float(scores.logprob[i]),
                rank=int(scores.rank[i]),
                entropy=float(scores.entropy[i]),
                top=tuple(
                    Alternative(id=int(t), bytes=tokenizer.token_bytes(int(t)), logprob=float(p))
                    for t, p in zip(scores.top_ids[i, :top], scores.top_logprobs[i], strict=False)
                ),
                special=token in tokenizer.special_ids,
            )
            for i, token in enumerate(self.ids[1:])
        )
        self.tokens = (first, *rest)


class Candidate:
    """One candidate of one prompt. Give it the engine's events; take deltas, and at the end the
    record."""

    def __init__(
        self,
        prompt: PromptPart,
        number: int,
        job: Job,
        request: CompletionRequest,
        tokenizer: Tokenizer,
    ):
        self.prompt = prompt
        self.number = number
        self.job = job
        self.request = request
        self.tokenizer = tokenizer
        self.ticket: Ticket | None = None
        self.text = ChoiceText(
            stops=request.stop,
            include_stop=request.include_stop_str_in_output,
            dangling=prompt.dangling,
        )
        self.drawn: list[TokenEvent] = []
        self.finish_reason: Literal["stop", "length"] | None = None
        self.stop_reason: str | int | None = None
        self._strict_sent = 0
        self._legacy_sent = 0
        self._opened = False

    @property
    def over(self) -> bool:
        """Whether the finish reason is known."""
        return self.finish_reason is not None

    def take(self, tokens: tuple[TokenEvent, ...]) -> None:
        """Add drawn tokens. A stop string ends the candidate; what was drawn after it is
        forgotten."""
        for token in tokens:
            if self.over:
                return
            self.drawn.append(token)
            ends = token.id in self.job.stop_ids
            if self.text.push(self._bytes_in_text(token.id), ends=ends):
                self.finish_reason, self.stop_reason = "stop", self.text.stop

    def end(self, ended: Ended) -> None:
        """The engine's own end: a stop id, a complete choice, the budget."""
        if not self.over:
            self.text.finish()
            self.finish_reason = ended.reason
            eos = ended.stop_id in self.tokenizer.eos_ids
            self.stop_reason = None if eos else ended.stop_id

    def _bytes_in_text(self, token: int) -> bytes:
        """A token that ends the sequence has no text, unless it is a stop id that shall be
        included; EOS never has."""
        included = self.request.include_stop_str_in_output and token not in self.tokenizer.eos_ids
        if token in self.job.stop_ids and not included:
            return b""
        return self.tokenizer.token_bytes(token)

    # --- what is sent and returned --------------------------------------------------------------

    @property
    def echoed(self) -> str:
        """The prompt as it stands in front of the completion; "" without `echo`."""
        if not self.request.echo:
            return ""
        return self.prompt.text + self._unclaimed()

    def _unclaimed(self) -> str:
        """Dangling bytes of the prompt that no generated byte has completed."""
        return self.text.unclaimed.decode(errors="replace") if self.over else ""

    @property
    def suffix(self) -> str:
        """What is appended literally: the request's suffix where the model cannot fill in."""
        return "" if self.tokenizer.fim else self.request.suffix

    def delta(self, index: int) -> ChoiceDelta | None:
        """What is new since the last delta, for the choice with this index; None if an event would
        say nothing."""
        first, text = not self._opened, self.text.take()
        if first and self.request.echo:
            text = self.prompt.text + text
        if self.over:
            text += (self._unclaimed() if self.request.echo else "") + self.suffix
        if not (text or self.over or self._shows_new_tokens()):
            return None
        self._opened = True
        legacy = self.records(self._legacy_sent, len(self.drawn))
        strict = self.records(self._strict_sent, self.text.settled)
        strict = tuple(record for record in strict if record.contributes)
        before, self._legacy_sent = self._legacy_sent, len(self.drawn)
        self._strict_sent = self.text.settled
        if first and self.request.echo:
            shown = self.prompt.tokens[self.prompt.inserted :]
            legacy = (*shown, *legacy)
            strict = (*(t for t in shown if t.logprob is not None), *strict)
        return ChoiceDelta(
            index=index,
            text=text,
            strict=strict,
            legacy=legacy,
            legacy_before=before + (0 if first else self._shown_tokens),
            prompt_ids=self.prompt.ids if first else None,
            inserted=self.prompt.inserted,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )

    def _shows_new_tokens(self) -> bool:
        """Whether tokens without new text are worth an event: their logprobs or ids go out now."""
        request = self.request
        if request.dialect is Dialect.LEGACY:
            asked = request.logprobs is not None or request.return_token_ids
            return asked and self._legacy_sent < len(self.drawn)
        new = range(self._strict_sent, self.text.settled)
        return request.logprobs is not None and any(map(self.text.contributes, new))

    @property
    def _shown_tokens(self) -> int:
        return len(self.prompt.tokens[self.prompt.inserted :]) if self.request.echo else 0

    @functools.cached_property
    def mean_logprob(self) -> float | None:
        """Mean raw logprob of all sampled tokens, EOS and stop tokens included."""
        if not self.drawn:
            return None
        return sum(token.logprob for token in self.drawn) / len(self.drawn)

    def record(self, index: int) -> ChoiceRecord:
        """The finished choice, at its place in the answer."""
        assert self.finish_reason is not None, "the candidate has ended"
        return ChoiceRecord(
            index=index,
            prompt_index=self.prompt.index,
            candidate=self.number,
            text=self.echoed + self.text.text + self.suffix,
            echoed=self.echoed,
            completion=self.text.text,
            suffix=self.suffix,
            inserted=self.prompt.inserted,
            prompt_tokens=self.prompt.tokens,
            tokens=self.records(0, len(self.drawn)),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            mean_logprob=self.mean_logprob,
        )

    def records(self, start: int, end: int) -> tuple[TokenRecord, ...]:
        """Records of the drawn tokens `start .. end - 1`."""
        return tuple(self._record(i) for i in range(start, end))

    def _record(self, i: int) -> TokenRecord:
        token = self.drawn[i]
        settled = i < self.text.settled
        base = len(self.prompt.text) if self.request.echo else 0
        return TokenRecord(
            id=token.id,
            bytes=self.tokenizer.token_bytes(token.id),
            segment="completion",
            offset=base + self.text.offsets[i],
            logprob=token.logprob,
            sampling_logprob=token.sampling_logprob,
            rank=token.rank,
            entropy=token.entropy,
            sampling_entropy=token.sampling_entropy,
            support=token.support,
            kept_mass=token.kept_mass,
            bias=token.bias,
            penalty=token.penalty,
            top=self._alternatives(token),
            contributes=settled and self.text.contributes(i),
            special=token.id in self.tokenizer.special_ids,
        )

    def _alternatives(self, token: TokenEvent) -> tuple[Alternative, ...]:
        columns = zip(
            token.top_ids.tolist(),
            token.top_logprobs.tolist(),
            token.top_sampling_logprobs.tolist(),
            token.top_dropped.tolist(),
            strict=True,
        )
        return tuple(
            Alternative(
                id=id_,
                bytes=self.tokenizer.token_bytes(id_),
                logprob=logprob,
                sampling_logprob=sampling,
                dropped_by=DROPPED_BY[dropped] if self.request.details else None,
            )
            for id_, logprob, sampling, dropped in columns
        )
