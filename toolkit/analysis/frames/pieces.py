"""Tokens as other servers write them -> positions: content entries, arrays, vLLM's prompts."""

from __future__ import annotations

import builtins
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from toolkit.analysis.frames.sequence import Candidate, Position, readable

ESCAPED = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")
MINUS_INFINITY = -9999.0
"""How JSON answers spell a log-probability of minus infinity."""


def from_entry(entry: Mapping[str, Any]) -> Position:
    """An entry of `logprobs.content`: chat answers, the specification's, llama.cpp's.

    Where its token stands among `top_logprobs` its rank is known: those are the best, in order.
    """
    items = entry.get("top_logprobs") or entry.get("top_probs") or ()
    pairs = [(_named(item), *_values(item)) for item in items]
    values = [raw for _, raw, _ in pairs if raw is not None]
    ranked = len(values) == len(pairs) and values == sorted(values, reverse=True)
    best = tuple(
        _candidate(named, raw, sampled, rank if ranked else None)
        for rank, (named, raw, sampled) in enumerate(pairs, start=1)
    )
    position = Position(chosen=_candidate(_named(entry), *_values(entry)), alternatives=best)
    return with_rank(position, len(best) if ranked else 0)


def from_arrays(arrays: Mapping[str, Any], ids: list[int] | None) -> list[Position]:
    """Positions of OpenAI's parallel arrays; vLLM's and llama-cpp-python's are the same.

    A dict of `top_logprobs` holds the k best and, if it is not one of them, the token itself. k is
    not in the answer: the sizes tell it.
    """
    tokens, values = arrays["tokens"], arrays.get("token_logprobs")
    tops, offsets = arrays.get("top_logprobs"), arrays.get("text_offset")
    found = []
    for i, name in enumerate(tokens):
        logprob = _number(values[i]) if values else None
        named = _spelled(name)
        given = ids[i] if ids is not None else named[0]
        start = offsets[i] if offsets else None
        end = None if start is None or named[1] is None else start + len(named[1])
        found.append(
            Position(
                chosen=_candidate((given, *named[1:]), logprob),
                alternatives=_table(tops[i] if tops else None),
                text_start=start,
                text_end=end,
            )
        )
    reach = _reach(found)
    return [with_rank(position, reach) for position in found]


def from_prompt_logprobs(entries: list[Any], ids: list[int] | None) -> list[Position]:
    """vLLM's `prompt_logprobs`: null first, then dicts from an id to its entry, the token's own
    entry in front."""
    found = []
    for i, entry in enumerate(entries):
        listed = [_prompt_candidate(key, value) for key, value in (entry or {}).items()]
        chosen = listed[0] if listed else Candidate(id=ids[i] if ids else None)
        ordered = sorted(listed, key=lambda item: (item.rank is None, item.rank or 0))
        found.append(Position(chosen=chosen, alternatives=tuple(ordered), segment="prompt"))
    return found


def _prompt_candidate(key: str, value: Any) -> Candidate:
    if not isinstance(value, Mapping):  # some servers give the number alone
        value = {"logprob": value}
    name = value.get("decoded_token")
    _, token, data = (None, None, None) if name is None else _spelled(name)
    return Candidate(
        id=int(key),
        token=token,
        bytes=data,
        logprob=_number(value.get("logprob")),
        rank=value.get("rank"),
    )


def with_rank(position: Position, reach: int) -> Position:
    """The position with the rank of its token, if it is among the first `reach` alternatives."""
    chosen = position.chosen
    for rank, item in enumerate(position.alternatives[:reach], start=1):
        if chosen.rank is None and position.is_chosen(item):
            identity = item.id if chosen.id is None else chosen.id
            known = dataclasses.replace(chosen, id=identity, rank=rank)
            return dataclasses.replace(position, chosen=known)
    return position


def _reach(positions: list[Position]) -> int:
    """How many of the best each dict is sure to hold.

    The largest dict has k or k + 1 entries: k if its token is not the last, being one of the best.
    """
    largest = max((len(p.alternatives) for p in positions), default=0)
    full = [p for p in positions if len(p.alternatives) == largest]
    inside = any(p.alternatives and not p.is_chosen(p.alternatives[-1]) for p in full)
    return largest if inside else largest - 1


def _table(table: Mapping[str, Any] | None) -> tuple[Candidate, ...]:
    items = [(_spelled(name), _number(value)) for name, value in (table or {}).items()]
    items.sort(key=lambda item: -math.inf if item[1] is None else -item[1])
    return tuple(_candidate(named, value) for named, value in items)


Named = tuple[int | None, str | None, builtins.bytes | None]


def _candidate(
    named: Named, logprob: float | None, sampled: float | None = None, rank: int | None = None
) -> Candidate:
    return Candidate(
        id=named[0],
        token=named[1],
        bytes=named[2],
        logprob=logprob,
        logprob_sampled=sampled,
        rank=rank,
    )


def _named(item: Mapping[str, Any]) -> Named:
    """Id, text and bytes of an entry; bytes that are not given follow from the text."""
    identity, token, data = _spelled(item.get("token") or "")
    if item.get("bytes") is not None:
        data = builtins.bytes(item["bytes"])
    return item.get("id", identity), token, data


def _spelled(name: str) -> Named:
    """What a token's name says: `token_id:17` an id, `bytes:\\xf0` bytes, all else the text.

    Text with U+FFFD stands for bytes that it does not tell.
    """
    if name.startswith("token_id:") and name[9:].isascii() and name[9:].isdigit():
        return int(name[9:]), None, None
    if match := ESCAPED.fullmatch(name):
        data = builtins.bytes.fromhex(match[1].replace("\\x", ""))
        return None, readable(data), data
    return None, name, None if "\ufffd" in name else name.encode(errors="surrogatepass")


def _values(item: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Log-probability before and after the sampler; llama.cpp's `prob` is the latter."""
    if "prob" in item:
        return None, math.log(item["prob"]) if item["prob"] > 0 else -math.inf
    return _number(item.get("logprob")), None


def _number(value: Any) -> float | None:
    if value is None:
        return None
    return -math.inf if value <= MINUS_INFINITY else float(value)
