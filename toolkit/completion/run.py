"""One request from submission to its record: prompts, tickets, candidates, and who hears of
what."""

from __future__ import annotations

import functools
import queue
import secrets
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from toolkit.completion.candidate import Candidate, PromptPart
from toolkit.completion.record import (
    ChoiceDelta,
    ChoiceRecord,
    Completion,
    CompletionRecord,
    StreamHead,
    Timings,
    Usage,
)
from toolkit.completion.request import CompletionRequest, check_tokens, sampling_params
from toolkit.engine.job import Ended, Event, Failed, Job, Prompted, Tokens
from toolkit.errors import EngineClosed
from toolkit.sampling.params import Report

if TYPE_CHECKING:
    from toolkit.completion.complete import LM

T = TypeVar("T")


WATCH = 0.02
"""Seconds between two calls of a run's `watch` while the engine has nothing to say."""


class Run:
    """A request on the engine. Everything is checked, and the jobs are queued, when it is made.

    Iterate over `deltas()` for a stream, or call `finish()` for the whole; leaving either early
    cancels what still runs. `watch` is called before each event and while none comes; what it
    raises ends the run.
    """

    def __init__(
        self, lm: LM, request: CompletionRequest, *, watch: Callable[[], None] | None = None
    ):
        self.lm = lm
        self.request = request
        self._watch = watch
        self.seed = request.seed if request.seed is not None else secrets.randbits(64) - 2**63
        self.prompts = [prompt_part(lm, request, i) for i in range(len(request.prompt))]
        budgets = check_tokens(
            request,
            [prompt.ids for prompt in self.prompts],
            vocab_size=lm.tokenizer.vocab_size,
            context=lm.context,
            has_eos=bool(lm.tokenizer.eos_ids),
            fim=lm.tokenizer.fim is not None,
            limits=lm.limits,
        )
        job = functools.partial(job_of, lm, request, self.seed)
        self.candidates = [
            Candidate(prompt, number, job(prompt, number, budget), request, lm.tokenizer)
            for prompt, budget in zip(self.prompts, budgets, strict=True)
            for number in range(request.best_of)
        ]
        self.head = StreamHead(
            id=f"cmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=request.model or lm.name,
            request=request,
            system_fingerprint=lm.fingerprint,
        )
        self._began = time.perf_counter()
        self._prompted: list[float] = []
        self._first_token: float | None = None
        tickets, self._events = lm.engine.submit([c.job for c in self.candidates])
        self._by_ticket = dict(zip(tickets, self.candidates, strict=True))
        for ticket, candidate in self._by_ticket.items():
            candidate.ticket = ticket

    # --- while it runs ----------------------------------------------------------------------------

    def deltas(self) -> Iterator[ChoiceDelta]:
        """What each event adds to a choice, until every choice has ended."""
        try:
            while not self.over:
                candidate = self._next()
                if candidate is None:
                    continue
                delta = candidate.delta(self._index(candidate))
                if delta is not None:
                    yield delta
        finally:
            self.cancel()

    def finish(self) -> CompletionRecord:
        """Wait for the end and give the record. Raises what made a sequence fail."""
        try:
            while not self.over:
                self._next()
        finally:
            self.cancel()
        return self.record()

    @property
    def over(self) -> bool:
        """Whether every candidate has ended."""
        return not self._by_ticket

    @property
    def behind(self) -> int:
        """How many events nobody has read yet."""
        return self._events.qsize()

    def cancel(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Give the rows back; for a finished run nothing is left to do, nor while Python ends: the
        engine has ended before, and the names used here may be gone."""
        if ending():
            return
        tickets = list(self._by_ticket)
        self._by_ticket.clear()
        self.lm.engine.cancel(tickets)
        for ticket in tickets[:1]:  # wakes a thread that waits for the next event
            self._events.put(Failed(ticket, EngineClosed("The request was cancelled.")))

    def _next(self) -> Candidate | None:
        """Wait for one event; the candidate whose text or state it may have changed."""
        event = self._await_event()
        candidate = self._by_ticket.get(event.ticket)
        if candidate is None:  # drawn after a stop string had ended the candidate
            return None
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Prompted):
            self._note_prompt(candidate, event)
            return None
        if isinstance(event, Tokens):
            self._first_token = self._first_token or time.perf_counter()
            candidate.take(event.tokens)
        elif isinstance(event, Ended):
            candidate.end(event)
        if candidate.over:
            self._by_ticket.pop(event.ticket, None)
            if isinstance(event, Tokens):
                self.lm.engine.cancel([event.ticket])
        return candidate

    def _await_event(self) -> Event:
        if self._watch is None:
            return self._events.get()
        while True:
            self._watch()
            try:
                return self._events.get(timeout=WATCH)
            except queue.Empty:
                continue

    def _note_prompt(self, candidate: Candidate, event: Prompted) -> None:
        self._prompted.append(time.perf_counter())
        if event.scores is not None and not candidate.prompt.tokens:
            top = candidate.job.score or 0
            candidate.prompt.score(event.scores, self.lm.tokenizer, top=top)

    def _index(self, candidate: Candidate) -> int:
        return candidate.prompt.index * self.request.n + candidate.number

    # --- afterwards -------------------------------------------------------------------------------

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            prompt_tokens=sum(len(prompt.ids) for prompt in self.prompts),
            completion_tokens=sum(len(c.drawn) for c in self.candidates),
        )

    def record(self) -> CompletionRecord:
        """Everything about the finished answer."""
        chosen, rejected = self._ranked()
        return CompletionRecord(
            id=self.head.id,
            created=self.head.created,
            model=self.head.model,
            request=self.request,
            seed=self.seed,
            prompts=tuple(prompt.ids for prompt in self.prompts),
            choices=tuple(chosen),
            rejected=tuple(rejected),
            usage=self.usage,
            timings=self.timings,
            system_fingerprint=self.head.system_fingerprint,
        )

    def _ranked(self) -> tuple[list[ChoiceRecord], list[ChoiceRecord]]:
        """The choices in index order, and the candidates that `best_of` rejected, best first."""
        n, best_of = self.request.n, self.request.best_of
        chosen: list[ChoiceRecord] = []
        rejected: list[ChoiceRecord] = []
        for prompt in self.prompts:
            group = self.candidates[prompt.index * best_of : (prompt.index + 1) * best_of]
            if best_of > n:
                group = sorted(group, key=lambda c: -(c.mean_logprob or 0.0))
            records = [c.record(prompt.index * n + place) for place, c in enumerate(group)]
            chosen += records[:n]
            rejected += records[n:]
        return chosen, rejected

    @property
    def timings(self) -> Timings:
        """Where the time went, up to now."""
        now, began = time.perf_counter(), self._began
        count = self.usage.completion_tokens
        after = now - self._first_token if self._first_token else 0.0
        return Timings(
            queue=self._prompted[0] - began if self._prompted else 0.0,
            prefill=self._prompted[-1] - self._prompted[0] if self._prompted else 0.0,
            first_token=self._first_token - began if self._first_token else None,
            total=now - began,
            tokens_per_second=(count - 1) / after if count > 1 and after > 0 else None,
        )


class Stream(Iterator[T]):
    """The pieces of a run as they come. Closing or dropping it stops the run, even before the first
    piece, when a generator alone would not have begun and so would clean nothing up."""

    def __init__(self, run: Run, pieces: Generator[T]):
        self._run = run
        self._pieces = pieces

    def __next__(self) -> T:
        return next(self._pieces)

    def show(self) -> Completion | None:
        """Show the rest as it comes: in place in a notebook, running in a terminal.

        Gives the finished completion, None if the stream was closed before its end.
        """
        # Not at the top: only who looks at a stream needs them.
        from toolkit.analysis import growing
        from toolkit.completion.response import strict

        screen, answer = growing.screen(), None
        growing.show(cast("Iterator[dict[str, Any]]", self), screen)
        if all(candidate.over for candidate in self._run.candidates):
            record = self._run.record()
            answer = Completion(strict(record), record)
        screen.settle(answer)
        return answer

    def _ipython_display_(self) -> None:
        """As the last expression of a cell, a stream shows itself."""
        self.show()

    def close(self) -> None:
        """Stop; nothing more comes. May be called twice."""
        if not self._run.over:
            self._run.cancel()
        try:
            self._pieces.close()
        except ValueError:  # another thread waits in it; the cancelled run has woken it
            return

    def __del__(self) -> None:
        self.close()


def job_of(
    lm: LM, request: CompletionRequest, seed: int, prompt: PromptPart, number: int, budget: int
) -> Job:
    """What the engine is asked for candidate `number` of one of a request's prompts."""
    tokenizer, vocab = lm.tokenizer, lm.tokenizer.vocab_size
    params = sampling_params(request, number, seed, tokenizer.eos_ids)
    return Job(
        prompt=prompt.ids,
        params=params,
        max_tokens=budget,
        report=Report(
            top=alternatives(request.logprobs, vocab),
            details=request.details,
            processed=request.logprobs_mode == "processed",
        ),
        stop_ids=frozenset(params.stop_ids),
        guide=lm.guide(request.guided_choice) if request.guided_choice else None,
        score=prompt_score(request, vocab),
    )


def prompt_part(lm: LM, request: CompletionRequest, index: int) -> PromptPart:
    """A prompt's ids, echo text and offsets. Raises InvalidRequest for text without a tokenizer."""
    tokenizer, prompt = lm.tokenizer, request.prompt[index]
    if isinstance(prompt, str):
        if request.suffix and tokenizer.fim:
            ids, inserted = tokenizer.infill(prompt, request.suffix), 0
            offsets = tokenizer.offsets(ids)
        else:
            ids, inserted = tokenizer.encode_prompt(
                prompt, add_special_tokens=request.add_special_tokens
            )
            fits = len(ids) <= lm.context  # what does not fit is refused; no time is spent on it
            offsets = [0] * inserted + (tokenizer.offsets(ids[inserted:], prompt) if fits else [])
        text, dangling = prompt, b""
    else:
        ids, inserted = list(prompt), 0
        known = [i for i in ids if 0 <= i < tokenizer.vocab_size]
        text, dangling = tokenizer.split(known)
        offsets = tokenizer.offsets(known)
    return PromptPart(index, tuple(ids), inserted, text, dangling, tuple(offsets))


def alternatives(asked: int | None, vocab: int) -> int:
    """Alternatives to compute for each token: -1 is all of them."""
    return vocab if asked == -1 else min(asked or 0, vocab)


def prompt_score(request: CompletionRequest, vocab: int) -> int | None:
    """Alternatives for each token of the prompt, or None when no one asks for its logprobs."""
    asked = [request.prompt_logprobs] if request.prompt_logprobs is not None else []
    if request.echo and request.logprobs is not None:
        asked.append(request.logprobs)
    return max((alternatives(a, vocab) for a in asked), default=None)
