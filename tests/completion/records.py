"""Records written by hand, for the tests of the serialisers.

The toy vocabulary is bytes: token 97 is `a`, and 256 is EOS.
"""

from __future__ import annotations

from typing import Any

from toolkit.completion.record import (
    Alternative,
    ChoiceRecord,
    CompletionRecord,
    StreamHead,
    Timings,
    TokenRecord,
    Usage,
)
from toolkit.completion.request import Dialect, parse

EOS = 256
USAGE = Usage(prompt_tokens=2, completion_tokens=3)
TIMINGS = Timings(queue=0.0, prefill=0.1, first_token=0.2, total=0.3, tokens_per_second=10.0)


def spell(token: int) -> bytes:
    return b"<eos>" if token == EOS else bytes([token])


def alternative(token: int, logprob: float, **fields: Any) -> Alternative:
    return Alternative(
        id=token, bytes=fields.pop("bytes", None) or spell(token), logprob=logprob, **fields
    )


def sampled(token: int, offset: int, logprob: float = -1.0, **fields: Any) -> TokenRecord:
    """A token of a completion; by default `z` (-0.5) and `y` (-0.75) were likelier."""
    top = fields.pop("top", (alternative(122, -0.5), alternative(121, -0.75)))
    return TokenRecord(
        id=token,
        bytes=fields.pop("bytes", None) or spell(token),
        segment=fields.pop("segment", "completion"),
        offset=offset,
        logprob=logprob,
        top=top,
        **fields,
    )


def prompted(token: int, offset: int, logprob: float | None = -2.0, **fields: Any) -> TokenRecord:
    """A token of a prompt."""
    return sampled(token, offset, logprob, segment="prompt", **fields)  # type: ignore[arg-type]


def choice(*tokens: TokenRecord, index: int = 0, text: str = "", **fields: Any) -> ChoiceRecord:
    return ChoiceRecord(
        index=index,
        prompt_index=fields.pop("prompt_index", 0),
        candidate=fields.pop("candidate", 0),
        text=text,
        completion=fields.pop("completion", text),
        tokens=tokens,
        finish_reason=fields.pop("finish_reason", "length"),
        mean_logprob=-1.0 if tokens else None,
        **fields,
    )


def record(*choices: ChoiceRecord, dialect: Dialect = Dialect.PYTHON, **fields: Any):
    """An answer to `fields`, with the prompt "hi"."""
    return CompletionRecord(
        id="cmpl-1",
        created=1700000000,
        model="toy",
        request=parse({"model": "toy", "prompt": "hi", **fields}, dialect=dialect),
        seed=7,
        prompts=((104, 105),),
        choices=choices,
        usage=USAGE,
        timings=TIMINGS,
        system_fingerprint="fp-1",
    )


def head(dialect: Dialect = Dialect.LEGACY, **fields: Any) -> StreamHead:
    """What the events of a stream share."""
    fields = {"model": "toy", "prompt": "hi", "stream": True, **fields}
    request = parse(fields, dialect=dialect)
    return StreamHead(
        id="cmpl-1", created=1700000000, model="toy", request=request, system_fingerprint="fp-1"
    )


def content(answer: Any, index: int = 0) -> list[dict[str, Any]]:
    return answer["choices"][index]["logprobs"]["content"]


AB = (sampled(97, 0), sampled(98, 1, -0.25))


PROMPT = (
    prompted(1, 0, None, bytes=b"<s>", top=()),
    prompted(104, 0, -2.0, rank=3),
    prompted(121, 1, -0.75),
)
"""A BOS that the server put there, then `h` (third best), then `y` (second best)."""
