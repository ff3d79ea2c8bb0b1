"""Answers as JSON, ours or any server's -> sequences.

Read are: the specification's shape; OpenAI's legacy completions, with the members that vLLM adds
(`prompt_logprobs`, `prompt_token_ids`, `token_ids`); llama-cpp-python's; chat completions with
`logprobs.content`; llama.cpp's own `completion_probabilities`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.analysis.frames.pieces import from_arrays, from_entry, from_prompt_logprobs
from toolkit.analysis.frames.sequence import Candidate, Position, Sequence, readable, spans
from toolkit.errors import RunError


def from_json(answer: Mapping[str, Any], *, prompt_tokens: int | None = None) -> Iterator[Sequence]:
    """The choices of an answer. `prompt_tokens`: how many entries of each choice are its prompt,
    where the answer itself cannot tell (`echo` with several choices).

    Raises RunError for what is no completion, with the server's words if it is an error.
    """
    if "completion_probabilities" in answer:
        yield _native(answer)
        return
    choices = answer.get("choices")
    if not isinstance(choices, list):
        raise RunError(_no_completion(answer))
    for number, choice in enumerate(choices):
        positions = _positions(answer, choice, prompt_tokens)
        yield Sequence(
            request_id=answer.get("id"),
            prompt_index=0 if len(choices) == 1 else None,
            choice_index=choice.get("index", number),
            positions=tuple(positions),
            facts=_facts(answer, choice, positions),
        )


def _no_completion(answer: Mapping[str, Any]) -> str:
    error = answer.get("error") or answer.get("detail")
    if error:
        words = error.get("message", error) if isinstance(error, Mapping) else error
        return f"The answer is an error and holds no tokens: {words}"
    keys = ", ".join(sorted(map(str, answer))) or "nothing"
    return f"The answer has no list `choices`, only {keys}. Pass a completion as a server sends it."


def _positions(
    answer: Mapping[str, Any], choice: Mapping[str, Any], prompt_tokens: int | None
) -> list[Position]:
    logprobs = choice.get("logprobs") or {}
    ids = choice.get("token_ids")
    scored = choice.get("prompt_logprobs") or answer.get("prompt_logprobs")
    prompt = from_prompt_logprobs(scored, _prompt_ids(answer, choice)) if scored else []
    if logprobs.get("content"):
        found = [from_entry(entry) for entry in logprobs["content"]]
        rest = _content(found, choice, prompt_tokens, ids)
    elif logprobs.get("tokens"):
        rest = _arrays(answer, choice, prompt_tokens)
    else:
        rest = [_completion(Position(chosen=Candidate(id=item))) for item in ids or ()]
    if not prompt or any(p.segment is None for p in rest):
        return rest
    return prompt + [p for p in rest if p.segment == "completion"]


def _prompt_ids(answer: Mapping[str, Any], choice: Mapping[str, Any]) -> list[int] | None:
    return choice.get("prompt_token_ids") or answer.get("prompt_token_ids")


def _completion(position: Position) -> Position:
    return dataclasses.replace(position, segment="completion")


def _segmented(positions: list[Position], count: int | None) -> list[Position]:
    """The first `count` positions as the prompt; with None nobody knows which they are."""
    if count is None:
        return positions
    return [
        dataclasses.replace(p, segment="prompt" if i < count else "completion")
        for i, p in enumerate(positions)
    ]


# --- parallel arrays ------------------------------------------------------------------------------


def _arrays(
    answer: Mapping[str, Any], choice: Mapping[str, Any], prompt_tokens: int | None
) -> list[Position]:
    arrays, ids = choice["logprobs"], choice.get("token_ids")
    length = len(arrays["tokens"])
    count = prompt_tokens
    if count is None:
        count = _echoed(answer, choice)
    if ids is not None and len(ids) != length:
        # vLLM's ids are those of the completion, whether the prompt is echoed or not.
        whole = count is not None and count + len(ids) == length
        ids = [None] * count + ids if whole and count is not None else None
    return _segmented(from_arrays(arrays, ids), count)


def _echoed(answer: Mapping[str, Any], choice: Mapping[str, Any]) -> int | None:
    """How many entries of the arrays are the prompt; None if that cannot be told.

    Only with `echo` does the first entry have no log-probability.
    """
    arrays = choice["logprobs"]
    values, length = arrays.get("token_logprobs"), len(arrays["tokens"])
    if not values or values[0] is not None:
        return 0
    ids, prompt = choice.get("token_ids"), _prompt_ids(answer, choice)
    if ids is not None and len(ids) < length:
        return length - len(ids)
    for inserted in (0, 1):  # a BOS that the server put there is in no array
        shown = None if prompt is None else prompt[inserted:]
        if ids is not None and shown and ids[: len(shown)] == shown:
            return len(shown)
    usage = answer.get("usage") or {}
    if len(answer["choices"]) == 1 and "completion_tokens" in usage:
        count = length - usage["completion_tokens"]
        lacking = usage.get("prompt_tokens", count) - count
        if lacking == 1 and _ends_early(choice):
            return count + 1
        # `best_of` and hidden tokens make the counts disagree.
        return count if lacking in (0, 1) else None
    return None


def _ends_early(choice: Mapping[str, Any]) -> bool:
    """Whether the text goes on after the last entry: llama-cpp-python echoes a prompt without BOS
    and has no entry for the last token then. Else the entry that lacks is a hidden BOS."""
    offsets = choice["logprobs"].get("text_offset")
    if not offsets:
        return False
    return offsets[-1] + len(choice["logprobs"]["tokens"][-1]) < len(choice.get("text") or "")


# --- content entries ------------------------------------------------------------------------------


def _content(
    found: list[Position],
    choice: Mapping[str, Any],
    prompt_tokens: int | None,
    ids: list[int] | None,
) -> list[Position]:
    chat = "message" in choice
    text = (choice["message"].get("content") or "") if chat else choice.get("text", "")
    data = [p.chosen.bytes for p in found]
    pieces = [item for item in data if item is not None]
    count = prompt_tokens
    if count is None:
        count = 0 if chat or len(pieces) < len(found) else _in_front(pieces, text)
    if ids is not None and count is not None and len(ids) == len(found) - count:
        for i, item in enumerate(ids, start=count):
            chosen = dataclasses.replace(found[i].chosen, id=item)
            found[i] = dataclasses.replace(found[i], chosen=chosen)
    if len(pieces) == len(found):
        found = _placed(found, pieces, text, count)
    return _segmented(found, count)


def _in_front(pieces: list[bytes], text: str) -> int | None:
    """How many entries stand in front of the text because they score a prompt that it lacks.

    The entries of the text are those that it begins with, up to the one in which a stop may have
    cut it. None if there are none: the text begins with a prompt whose first token has no entry.
    """
    for count in range(len(pieces), -1, -1):
        rest = pieces[count:]
        decoded, before = readable(b"".join(rest)), readable(b"".join(rest[:-1]))
        if rest and len(before) >= max(1, len(text)):
            continue
        if decoded.startswith(text) and (rest or not text):
            return count
        if rest and count == 0 and text.startswith(decoded):  # a literal suffix follows
            return 0
    return None


def _placed(
    found: list[Position], pieces: list[bytes], text: str, count: int | None
) -> list[Position]:
    """Positions with their code points in the text; none for a prompt that is not in it."""
    for first in sorted({0, count or 0}):
        rest = pieces[first:]
        base = _base(readable(b"".join(rest)), text, cut=first == (count or 0))
        if base is not None:
            places = [(base + start, base + end) for start, end in spans(rest)]
            there = [
                dataclasses.replace(position, text_start=start, text_end=end)
                for position, (start, end) in zip(found[first:], places, strict=True)
            ]
            return found[:first] + there
    return found


def _base(decoded: str, text: str, *, cut: bool) -> int | None:
    """Where in the text the entries begin: at its start, or so that they end with it."""
    if text.startswith(decoded) or (cut and decoded.startswith(text)):
        return 0
    return len(text) - len(decoded) if text.endswith(decoded) else None


# --- the rest of an answer ------------------------------------------------------------------------


def _facts(
    answer: Mapping[str, Any], choice: Mapping[str, Any], positions: list[Position]
) -> dict[str, Any]:
    usage = answer.get("usage") or {}
    alone = len(answer["choices"]) == 1
    prompt = _prompt_ids(answer, choice)
    message = choice.get("message") or {}
    segments = [p.segment for p in positions]
    counted = segments.count("completion") if segments and None not in segments else None
    reason = choice.get("stop_reason")
    return {
        "model": answer.get("model"),
        "text": choice.get("text", message.get("content")),
        "finish_reason": choice.get("finish_reason"),
        "stop_reason": None if reason is None else str(reason),
        "prompt_tokens": len(prompt) if prompt else usage.get("prompt_tokens") if alone else None,
        "completion_tokens": usage.get("completion_tokens") if alone and usage else counted,
        "system_fingerprint": answer.get("system_fingerprint"),
    }


def _native(answer: Mapping[str, Any]) -> Sequence:
    """What llama.cpp's `/completion` sends."""
    entries = answer["completion_probabilities"]
    if any("probs" in entry for entry in entries):
        raise RunError(
            "`completion_probabilities` has the form of llama.cpp before 2025, without bytes and "
            "ids. Ask `/v1/completions` with `logprobs`, or take a newer server."
        )
    found = [from_entry(entry) for entry in entries]
    text = answer.get("content", "")
    positions = _content(found, {"text": text}, 0, None)
    timings = answer.get("timings") or {}
    ended = "length" if answer.get("stop_type") == "limit" else "stop"
    return Sequence(
        prompt_index=0,
        choice_index=answer.get("index", 0),
        positions=tuple(positions),
        facts={
            "model": answer.get("model"),
            "text": text,
            "finish_reason": ended,
            "prompt_tokens": answer.get("tokens_evaluated"),
            "completion_tokens": answer.get("tokens_predicted"),
            "tokens_per_second": timings.get("predicted_per_second"),
        },
    )
