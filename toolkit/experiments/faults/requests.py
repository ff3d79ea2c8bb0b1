"""Faults in what reaches the model: a BOS too many, a lost seed, penalties for the prompt."""

from __future__ import annotations

import collections
import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.errors import InvalidRequest
from toolkit.experiments.faults.wrapped import Wrapped, ids_of, prompts_of
from toolkit.experiments.target import Answer, Local

MOST = 100.0
"""Largest `logit_bias`."""


def bos_added(target: Any, *, bos: int | None = None, tells: bool = True) -> Wrapped:
    """Text gets a token in front that its tokenizer does not put there; ids go on as they are.

    `bos`: its id; None takes a loaded model's BOS, else its end of text. `tells`: whether the route
    that tokenises shows it. Answers hide it, as servers do.
    """
    return _BosAdded(target, bos, tells)


def seed_ignored(target: Any) -> Wrapped:
    """Every request is drawn with a fresh seed, whatever it asks for."""
    return _SeedIgnored(target)


def penalties_count_prompt(target: Any) -> Wrapped:
    """Frequency and presence penalties count the tokens of the prompt too.

    Made with `logit_bias`, so that a token of the prompt that is generated again has the presence
    penalty twice.
    """
    return _PenaltiesCountPrompt(target)


class _BosAdded(Wrapped):
    fault = "BOS added"

    def __init__(self, target: Any, bos: int | None, tells: bool):
        super().__init__(target)
        if bos is None and isinstance(self.target, Local):
            tokenizer = self.target.lm.tokenizer
            bos = tokenizer.bos_id if tokenizer.bos_id is not None else min(tokenizer.eos_ids)
        if bos is None:
            raise InvalidRequest("`bos` is needed for a server. Give an id.", param="bos")
        self.bos, self.tells = bos, tells

    def tokenize(self, text: str) -> list[int] | None:
        ids = self.target.tokenize(text)
        return [self.bos, *ids] if ids is not None and self.tells else ids

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        prompts = [
            [self.bos, *ids_of(self.target, p)] if isinstance(p, str) else p
            for p in prompts_of(fields)
        ]
        return {**fields, "prompt": prompts}

    def told(self, answer: Answer, fields: Mapping[str, Any]) -> dict[str, Any]:
        body, prompts = copy.deepcopy(answer.body), prompts_of(fields)
        each = max(1, len(body["choices"]) // len(prompts))
        for choice in body["choices"] if fields.get("echo") else ():
            prompt = prompts[min(choice["index"] // each, len(prompts) - 1)]
            if isinstance(prompt, str):
                _hide_first(choice, len(choice["text"]), prompt)
        return body


def _hide_first(choice: dict[str, Any], length: int, prompt: str) -> None:
    """Take the first token out of the text and the arrays of a choice that echoes it."""
    shown = choice["text"].find(prompt)
    choice["text"] = choice["text"][shown:]
    logprobs = choice.get("logprobs")
    if logprobs and "tokens" in logprobs:
        for name, values in logprobs.items():
            del values[0]
            if name == "text_offset":
                values[:] = [place - shown for place in values]


class _SeedIgnored(Wrapped):
    fault = "seed ignored"

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in fields.items() if name != "seed"}


class _PenaltiesCountPrompt(Wrapped):
    fault = "penalties count the prompt"

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        prompts = prompts_of(fields)
        if len(prompts) == 1:
            return super().complete(fields)
        parts = [
            super(_PenaltiesCountPrompt, self).complete({**fields, "prompt": p}) for p in prompts
        ]
        return _joined(parts)

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        frequency = fields.get("frequency_penalty") or 0.0
        presence = fields.get("presence_penalty") or 0.0
        if not frequency and not presence:
            return fields
        bias = {str(key): value for key, value in (fields.get("logit_bias") or {}).items()}
        counts = collections.Counter(ids_of(self.target, prompts_of(fields)[0]))
        for token, count in counts.items():
            value = bias.get(str(token), 0.0) - frequency * count - presence
            bias[str(token)] = max(-MOST, min(MOST, value))
        return {**fields, "logit_bias": bias}


def _joined(parts: list[Answer]) -> Answer:
    """Answers to one prompt each as the answer to all of them."""
    body = copy.deepcopy(parts[0].body)
    body["choices"] = [choice for part in parts for choice in part.body["choices"]]
    for index, choice in enumerate(body["choices"]):
        choice["index"] = index
    return dataclasses.replace(
        parts[0], body=body, seconds=sum(part.seconds for part in parts), record=None
    )
