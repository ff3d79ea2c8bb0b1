"""A nucleus with one token too few or too many."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.completion.complete import LM
from toolkit.completion.record import TokenRecord
from toolkit.errors import InvalidRequest
from toolkit.experiments.faults.wrapped import Wrapped, ids_of, prompts_of
from toolkit.experiments.target import Answer, Local

SEEN = 20
"""Tokens that the nucleus may be chosen from."""
FIELDS = frozenset(
    {"prompt", "max_tokens", "temperature", "top_p", "n", "seed", "logprobs", "model"}
)


def top_p_off_by_one(lm: LM, *, by: int = -1) -> Wrapped:
    """`top_p` leaves one token fewer than it should (at least one), or one more with `by` 1.

    Requests with `top_p` below 1 are drawn here, token by token among the 20 likeliest of a loaded
    model; all others go on as they are.
    """
    return _TopPOffByOne(lm, by)


class _TopPOffByOne(Wrapped):
    fault = "top_p off by one"

    def __init__(self, target: Any, by: int):
        super().__init__(target)
        if not isinstance(self.target, Local):
            raise InvalidRequest("`lm` must be a loaded model.", param="lm")
        self.local: Local = self.target
        self.by = by

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        top_p, temperature = fields.get("top_p", 1.0), fields.get("temperature", 1.0)
        if top_p is None or top_p >= 1 or temperature == 0 or not fields.keys() <= FIELDS:
            return self.target.complete(fields)
        began = time.perf_counter()
        prompts = [
            ids_of(self.target, p) for p in prompts_of(fields) for _ in range(_count(fields))
        ]
        drawn = self._draw(prompts, fields)
        return Answer(body=self._body(drawn, fields), seconds=time.perf_counter() - began)

    def _draw(
        self, prompts: list[list[int]], fields: Mapping[str, Any]
    ) -> list[list[tuple[TokenRecord, int]]]:
        """For each choice the positions and the ids drawn there."""
        seed = fields.get("seed")
        rng = np.random.default_rng(secrets.randbits(63) if seed is None else abs(seed))
        found: list[list[tuple[TokenRecord, int]]] = [[] for _ in prompts]
        ends = self.local.lm.tokenizer.eos_ids
        for _ in range(16 if fields.get("max_tokens") is None else fields["max_tokens"]):
            going = [i for i, made in enumerate(found) if not made or made[-1][1] not in ends]
            if not going:
                break
            sequences = [[*prompts[i], *(token for _, token in found[i])] for i in going]
            for i, position in zip(going, self._positions(sequences, fields), strict=True):
                found[i].append((position, self._one(position, fields["top_p"], rng)))
        return found

    def _positions(
        self, sequences: Sequence[list[int]], fields: Mapping[str, Any]
    ) -> list[TokenRecord]:
        """What could follow each sequence."""
        asked = {"prompt": list(sequences), "max_tokens": 1, "logprobs": SEEN, "seed": 0}
        record = self.local.complete({**asked, "temperature": fields.get("temperature", 1)}).record
        assert record is not None, "the engine here gives records"
        return [choice.tokens[0] for choice in record.choices]

    def _one(self, position: TokenRecord, top_p: float, rng: np.random.Generator) -> int:
        items = sorted(position.top, key=lambda item: -(item.sampling_logprob or 0.0))
        mass = np.exp([item.sampling_logprob or 0.0 for item in items])
        right = int(np.searchsorted(np.cumsum(mass), top_p)) + 1
        kept = mass[: max(1, right + self.by)]
        return items[int(rng.choice(len(kept), p=kept / kept.sum()))].id

    def _body(
        self, drawn: list[list[tuple[TokenRecord, int]]], fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        tokenizer, ends = self.local.lm.tokenizer, self.local.lm.tokenizer.eos_ids
        listed = []
        for index, made in enumerate(drawn):
            ids = [token for _, token in made]
            ended = bool(ids) and ids[-1] in ends
            choice: dict[str, Any] = {
                "index": index,
                "text": tokenizer.decode(ids[:-1] if ended else ids),
                "finish_reason": "stop" if ended else "length",
                "logprobs": None,
            }
            if fields.get("logprobs") not in (None, False):
                choice["logprobs"] = self._arrays(made, int(fields["logprobs"]))
            listed.append(choice)
        return {"id": "", "object": "text_completion", "choices": listed}

    def _arrays(self, made: list[tuple[TokenRecord, int]], count: int) -> dict[str, Any]:
        name = self.local.lm.tokenizer.token_str
        tables = [{item.id: item.logprob for item in position.top} for position, _ in made]
        best = [[item.id for item in position.top[:count]] for position, _ in made]
        return {
            "tokens": [name(token) for _, token in made],
            "token_logprobs": [t[token] for t, (_, token) in zip(tables, made, strict=True)],
            "top_logprobs": [
                {name(token): table[token] for token in (*first, drawn)}
                for table, first, (_, drawn) in zip(tables, best, made, strict=True)
            ],
        }


def _count(fields: Mapping[str, Any]) -> int:
    return fields.get("n") or 1
