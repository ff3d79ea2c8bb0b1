"""Our own records -> sequences. By the names of their attributes: this room imports no other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.analysis.frames.columns import PARAMETERS
from toolkit.analysis.frames.sequence import Candidate, Position, Sequence, readable, spans


def from_record(record: Any, *, rejected: bool = False) -> Iterator[Sequence]:
    """The returned choices of a `CompletionRecord`; with `rejected` also what `best_of` turned
    down, under the numbers that follow."""
    parameters = {name: flat(getattr(record.request, name)) for name in PARAMETERS}
    lost = record.rejected if rejected else ()
    for number, choice in enumerate((*record.choices, *lost)):
        yield Sequence(
            request_id=record.id,
            prompt_index=choice.prompt_index,
            choice_index=number,
            positions=_positions(choice, echo=record.request.echo),
            parameters=parameters,
            facts={**_facts(record, choice), "rejected": number >= len(record.choices)},
        )


def from_score(score: Any, index: int) -> Sequence:
    """A `TextScore`, as `LM.score` returns it: a prompt and nothing else."""
    text = readable(b"".join(token.bytes for token in score.tokens))
    return Sequence(
        prompt_index=index,
        choice_index=index,
        positions=tuple(_position(token, span) for token, span in _spans(score.tokens)),
        facts={"prompt": text, "prompt_tokens": len(score.tokens)},
    )


def _positions(choice: Any, *, echo: bool) -> tuple[Position, ...]:
    prompt = [
        _position(token, span if echo else (None, None), special=i < choice.inserted)
        for i, (token, span) in enumerate(_spans(choice.prompt_tokens))
    ]
    # Nothing else ends a choice with "stop", no reason and a token outside the text: it is EOS.
    ended = choice.finish_reason == "stop" and choice.stop_reason is None
    drawn = []
    for i, (token, span) in enumerate(_spans(choice.tokens), start=1):
        eos = ended and i == len(choice.tokens) and not token.contributes
        span = (token.offset, token.offset) if eos else span
        drawn.append(_position(token, span, special=eos))
    return (*prompt, *drawn)


def _spans(tokens: Any) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Each token with its code points in the returned text."""
    for token, (start, end) in zip(tokens, spans(t.bytes for t in tokens), strict=True):
        yield token, (token.offset, token.offset + end - start)


def _position(
    token: Any, span: tuple[int | None, int | None], *, special: bool = False
) -> Position:
    return Position(
        chosen=Candidate(
            id=token.id,
            token=readable(token.bytes),
            bytes=token.bytes,
            logprob=token.logprob,
            logprob_sampled=token.sampling_logprob,
            dropped_by=None if token.sampling_logprob is None else "none",
            rank=token.rank,
        ),
        alternatives=_alternatives(token),
        segment=token.segment,
        text_start=span[0],
        text_end=span[1],
        entropy=token.entropy,
        entropy_sampled=token.sampling_entropy,
        support=token.support,
        kept_mass=token.kept_mass,
        bias=token.bias,
        penalty=token.penalty,
        special=special or token.special,
    )


def _alternatives(token: Any) -> tuple[Candidate, ...]:
    """Best first by the model's own distribution, in which order processed ones do not come."""
    ordered = sorted(token.top, key=lambda item: -item.logprob)
    complete = [item.id for item in ordered] == [item.id for item in token.top]
    return tuple(
        Candidate(
            id=item.id,
            token=readable(item.bytes),
            bytes=item.bytes,
            logprob=item.logprob,
            logprob_sampled=item.sampling_logprob,
            dropped_by=_fate(item),
            rank=rank if complete else None,
        )
        for rank, item in enumerate(ordered, start=1)
    )


def _fate(item: Any) -> str | None:
    """What dropped an alternative; "none" for one that could be drawn; None if nobody asked."""
    if item.dropped_by is not None:
        return item.dropped_by
    drawable = item.sampling_logprob is not None and item.sampling_logprob > float("-inf")
    return "none" if drawable else None


def flat(value: Any) -> Any:
    """A parameter as one cell: lists and maps as JSON, empty ones as missing."""
    if isinstance(value, Mapping):
        return json.dumps({str(key): item for key, item in value.items()}) if value else None
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False) if value else None
    return value


def _facts(record: Any, choice: Any) -> dict[str, Any]:
    prompt = record.request.prompt[choice.prompt_index]
    reason = choice.stop_reason
    timings = record.timings
    return {
        "candidate": choice.candidate,
        "model": record.model,
        "prompt": prompt if isinstance(prompt, str) else json.dumps(list(prompt)),
        "text": choice.text,
        "finish_reason": choice.finish_reason,
        "stop_reason": None if reason is None else str(reason),
        "prompt_tokens": len(record.prompts[choice.prompt_index]),
        "completion_tokens": len(choice.tokens),
        "seed": record.seed,
        "seconds": timings.total,
        "ttft": timings.first_token,
        "tokens_per_second": timings.tokens_per_second,
        "system_fingerprint": record.system_fingerprint,
    }
