"""What the explorer knows and can do, without a widget: settings, text, pin, probe, samples.

Only `refresh` and what draws tokens run the model. A changed setting works on logits that are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toolkit.completion.complete import LM
from toolkit.completion.record import Completion
from toolkit.completion.response import strict
from toolkit.completion.run import Run
from toolkit.widgets.live import Live, live
from toolkit.widgets.names import found
from toolkit.widgets.settings import Settings, as_code, as_json, as_yaml
from toolkit.widgets.walk import Walk, go_on
from toolkit.widgets.worker import Watch

ENDED = "The text ends here. Go back, or force a token, to go on."


class Session:
    """One prompt under exploration. Its `settings` are those of the request that it spells."""

    def __init__(self, lm: LM, prompt: str, settings: Settings):
        self.lm = lm
        self.walk = Walk(lm, prompt)
        self.settings = self.walk.checked(settings)
        self.pinned: Settings | None = None
        self.probed: int | None = None

    # --- nothing here runs the model --------------------------------------------------------------

    def set(self, **parameters: Any) -> None:
        """Change parameters. Raises InvalidRequest for a name or a value that is none, and changes
        nothing then."""
        self.settings = self.walk.checked(self.settings.changed(parameters))

    def live(self, settings: Settings | None = None) -> Live | None:
        """The distribution at the cursor, under these or the present settings; None while its
        logits are not here."""
        settings = settings or self.settings
        position = self.walk.position(settings.guided_choice, compute=False)
        return None if position is None else live(position, self.walk.params(settings))

    def pin(self) -> None:
        """Keep the present settings as A, to compare others with."""
        self.pinned = self.settings

    def unpin(self) -> None:
        """Forget A."""
        self.pinned = None

    def probe(self, text: str) -> tuple[int, ...]:
        """Watch the first token of a string; an empty one watches none. All its tokens come
        back."""
        tokens = found(self.lm.tokenizer, text) if text else ()
        self.probed = tokens[0] if tokens else None
        return tokens

    @property
    def pure(self) -> bool:
        """Whether `parameters` give the text up to the cursor, token by token."""
        return self.walk.pure(self.settings)

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword arguments of `LM.complete`.

        For a text that the request itself gives, `max_tokens` ends it where the cursor stands.
        """
        walk, parameters = self.walk, self.settings.parameters
        room = self.lm.context - len(walk.prompt_ids)
        most = walk.cursor if walk.cursor and self.pure else self.settings.max_tokens
        return parameters | {"max_tokens": min(most, room)}

    def spelled(self, form: str) -> str:
        """The request as "code", "json" or "yaml"."""
        prompt, parameters = self.walk.prompt, self.parameters
        if form == "json":
            return as_json(prompt, parameters, self.lm.name)
        if form == "yaml":
            return as_yaml(prompt, parameters, self.lm.name)
        return as_code(prompt, parameters)

    # --- what may run the model -------------------------------------------------------------------

    def refresh(self) -> Live:
        """The distribution at the cursor, its logits computed if need be."""
        position = self.walk.position(self.settings.guided_choice)
        assert position is not None, "it may be computed"
        return live(position, self.walk.params(self.settings))

    def restart(self, prompt: str) -> None:
        """Explore another prompt under the same settings."""
        walk = Walk(self.lm, prompt)
        walk.checked(self.settings)
        self.walk = walk

    def force(self, text: str) -> None:
        """Append the tokens of a string at the cursor; `#17` is token 17."""
        for token in found(self.lm.tokenizer, text):
            self.walk.force(token)

    def sample(self, count: int, *, watch: Watch = go_on, told: Callable[[], None] = go_on) -> str:
        """Draw up to `count` tokens at the cursor; a note if the text ends there."""
        ended = self.walk.sample(self.settings, count, watch=watch, told=told)
        return ENDED if ended else ""

    def samples(self, count: int, *, watch: Watch = go_on) -> Completion:
        """Several continuations with the seed's own draws, which leave the text as it is.

        The text up to the cursor is their prompt; with guided choices the prompt itself is, since
        a choice begins there.
        """
        walk, settings = self.walk, self.settings
        prompt: str | list[int] = walk.prompt
        length = len(walk.prompt_ids)
        if walk.cursor and not settings.guided_choice:
            prompt = [*walk.prompt_ids, *(step.id for step in walk.before)]
            length = len(prompt)
        room = max(0, min(settings.max_tokens, self.lm.context - length))
        fields = {"max_tokens": room, "n": count, "logprobs": 5, "details": True}
        request = self.lm.parse(prompt, settings.parameters | fields, stream=False)
        record = Run(self.lm, request, watch=watch).finish()
        return Completion(strict(record), record)
