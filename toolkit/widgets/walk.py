"""A prompt and the tokens after it, step by step: each with the model's logits at its place.

A text that was drawn under one request, from its prompt on, is that request's own: the engine draws
it. A text with forced tokens, or with tokens from other settings, is no request's: there the next
token is drawn here, from the distribution on display, with the same numbers for the same seed.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable

import numpy as np

from toolkit.completion.candidate import Candidate
from toolkit.completion.complete import LM
from toolkit.completion.request import CompletionRequest, check_tokens, sampling_params
from toolkit.completion.run import Run
from toolkit.errors import InvalidRequest
from toolkit.sampling.guide import FREE, Guide
from toolkit.sampling.params import SamplingParams
from toolkit.widgets.draw import draw
from toolkit.widgets.live import Position, Row, live
from toolkit.widgets.settings import Settings
from toolkit.widgets.worker import Watch

ROWS = 64
"""Rows of logits that are kept: 64 of 49,152 tokens are 38 MB, probabilities included."""
AHEAD = 8
"""Tokens that the engine draws when one is asked for: the next clicks cost nothing."""


def go_on() -> None:
    """The `watch` that never stops."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One token after the prompt."""

    id: int
    logprob: float
    """Under the model's own distribution, in nats."""
    drawn_by: str | None = None
    """`Settings.draws` of the request whose own text it is part of."""
    forced: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """The beginning of a request's own text."""

    settings: str
    steps: tuple[Step, ...] = ()
    ended: bool = False


class Walk:
    """A text and a cursor in it. `cursor` c is the place of the token after `path[:c]`."""

    def __init__(self, lm: LM, prompt: str):
        if not isinstance(prompt, str):
            message = f"`prompt` must be a string here, got {prompt!r:.80}."
            raise InvalidRequest(f"{message} Give one text to explore.", param="prompt")
        self.lm = lm
        self.prompt = prompt
        lm.parse(prompt, {}, stream=False)
        self.prompt_ids = tuple(lm.tokenizer.encode(prompt))
        self._place: tuple[tuple[Step, ...], int] = ((), 0)
        self._rows: collections.OrderedDict[tuple[int, ...], Row] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._drawn = Drawn(settings="")

    # --- where the cursor stands ------------------------------------------------------------------

    @property
    def path(self) -> tuple[Step, ...]:
        """The tokens after the prompt, those behind the cursor included."""
        return self._place[0]

    @property
    def cursor(self) -> int:
        """Tokens of the path before the cursor."""
        return self._place[1]

    @property
    def before(self) -> tuple[Step, ...]:
        """The tokens between the prompt and the cursor."""
        path, cursor = self._place
        return path[:cursor]

    def position(self, choices: tuple[str, ...] = (), *, compute: bool = True) -> Position | None:
        """The cursor's place, with what a guide of these choices allows there.

        None if the model would have to run and `compute` does not let it.
        """
        before = tuple(step.id for step in self.before)
        row = self._row((*self.prompt_ids, *before), compute=compute)
        if row is None:
            return None
        allowed = self._allowed(choices, before)
        return Position(row=row, prompt=self.prompt_ids, generated=before, allowed=allowed)

    def _row(self, ids: tuple[int, ...], *, compute: bool) -> Row | None:
        with self._lock:
            row = self._rows.get(ids)
        if row is None and compute:
            row = Row(self.lm.logits(ids))
            with self._lock:
                self._rows[ids] = row
                while len(self._rows) > ROWS:
                    self._rows.popitem(last=False)
        return row

    def checked(self, settings: Settings) -> Settings:
        """The same with every value in its one form. Raises InvalidRequest for one that breaks a
        rule."""
        return Settings.read(self._request(settings))

    def params(self, settings: Settings) -> SamplingParams:
        """What the sampler gets; see `checked`."""
        return sampling_params(self._request(settings), 0, settings.seed, self.lm.tokenizer.eos_ids)

    def _request(self, settings: Settings) -> CompletionRequest:
        request = self.lm.parse(self.prompt, settings.parameters, stream=False)
        check_tokens(
            dataclasses.replace(request, max_tokens=0),
            [self.prompt_ids],
            vocab_size=self.lm.tokenizer.vocab_size,
            context=self.lm.context,
            has_eos=bool(self.lm.tokenizer.eos_ids),
            fim=False,
        )
        return request

    def pure(self, settings: Settings) -> bool:
        """Whether the text up to the cursor is the one that the request itself gives."""
        return all(step.drawn_by == settings.draws for step in self.before)

    def _allowed(self, choices: tuple[str, ...], before: tuple[int, ...]) -> list[int] | None:
        """Ids that the guide allows; None without one, and once a choice is complete or left."""
        if not choices:
            return None
        node = self._node(choices, before)
        return None if node is None or node == FREE else list(self._guide(choices).edges[node - 1])

    def _node(self, choices: tuple[str, ...], before: tuple[int, ...]) -> int | None:
        """Where the guide stands: FREE once a choice is complete, None for a text that left it."""
        guide, node = self._guide(choices), 1
        for token in before:
            if node == FREE or token not in guide.edges[node - 1]:
                return None
            node = guide.advance(node, token)
        return node

    def _guide(self, choices: tuple[str, ...]) -> Guide:
        return self.lm.guide(tuple(dict.fromkeys(choices)))

    # --- moving -----------------------------------------------------------------------------------

    def move(self, cursor: int) -> None:
        """Put the cursor at a step; beyond the ends it stays at the end."""
        path = self.path
        self._place = path, min(max(cursor, 0), len(path))

    def back(self) -> None:
        """Take the token before the cursor away, and what follows it."""
        kept = self.before[:-1]
        self._place = kept, len(kept)

    def force(self, token: int) -> None:
        """Put a token at the cursor in the place of what follows.

        Raises InvalidRequest where the context is full.
        """
        if not self._room:
            message = f"`token` {token} does not fit: the context of {self.lm.context} is full."
            raise InvalidRequest(f"{message} Go back some steps.", param="token")
        self._append(token, forced=True)

    def _append(self, token: int, *, forced: bool) -> None:
        before = self.before
        ids = (*self.prompt_ids, *(step.id for step in before))
        row = self._row(ids, compute=True)
        assert row is not None, "it may be computed"
        with np.errstate(divide="ignore"):
            logprob = float(np.log(row.probabilities[token]))
        step = Step(id=token, logprob=logprob, forced=forced)
        self._place = (*before, step), len(before) + 1

    # --- drawing ----------------------------------------------------------------------------------

    def sample(
        self,
        settings: Settings,
        count: int,
        *,
        watch: Watch = go_on,
        told: Callable[[], None] = go_on,
    ) -> bool:
        """Draw up to `count` tokens at the cursor, in the place of what follows.

        `told` is called after each. Returns whether the text has ended, by the end-of-sequence
        token, a complete choice or the end of the context. What `watch` stops keeps its tokens.
        """
        params = self.params(settings)
        count = min(count, self._room)
        if self.pure(settings):
            ended = self._go_on(settings, count, watch, told)
            return ended or not self._room
        while count > 0 and not self._over(settings, params):
            watch()
            position = self.position(settings.guided_choice)
            assert position is not None, "it may be computed"
            self._append(draw(live(position, params), step=self.cursor), forced=False)
            count -= 1
            told()
        return self._over(settings, params) or not self._room

    @property
    def _room(self) -> int:
        """Tokens that the context has room for after the cursor."""
        return self.lm.context - len(self.prompt_ids) - self.cursor

    def _over(self, settings: Settings, params: SamplingParams) -> bool:
        """Whether the token before the cursor ended the text."""
        before = tuple(step.id for step in self.before)
        if not before:
            return False
        choices = settings.guided_choice
        if choices:
            return self._node(choices, before) == FREE
        return before[-1] in params.stop_ids

    def _go_on(
        self, settings: Settings, count: int, watch: Watch, told: Callable[[], None]
    ) -> bool:
        wanted = self.cursor + count
        if self._drawn.settings != settings.draws:
            self._drawn = Drawn(settings=settings.draws, steps=self.before)
        if not self._drawn.ended and len(self._drawn.steps) < wanted:
            self._run(settings, wanted, watch, told)
        self._show(wanted)
        return self._drawn.ended and self.cursor == len(self._drawn.steps)

    def _run(self, settings: Settings, wanted: int, watch: Watch, told: Callable[[], None]) -> None:
        """Let the engine draw the request's text up to `wanted` tokens and a few more."""
        ahead = AHEAD if wanted == self.cursor + 1 else 0
        most = min(wanted + ahead, self.lm.context - len(self.prompt_ids))
        fields = settings.parameters | {"max_tokens": most}
        run = Run(self.lm, self.lm.parse(self.prompt, fields, stream=True), watch=watch)
        try:
            for _ in run.deltas():
                if self._note(run.candidates[0], settings):
                    self._show(wanted)
                    told()
        finally:
            self._note(run.candidates[0], settings)
            self._show(wanted)

    def _note(self, candidate: Candidate, settings: Settings) -> bool:
        """Keep what is drawn by now; whether it is more than was known."""
        if len(candidate.drawn) < len(self._drawn.steps):
            return False
        steps = tuple(
            Step(id=token.id, logprob=token.logprob, drawn_by=settings.draws)
            for token in candidate.drawn
        )
        ended = candidate.finish_reason == "stop"
        self._drawn = Drawn(settings=settings.draws, steps=steps, ended=ended)
        return True

    def _show(self, wanted: int) -> None:
        shown = self._drawn.steps[:wanted]
        self._place = shown, len(shown)
