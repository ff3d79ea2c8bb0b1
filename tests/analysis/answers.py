"""Answers as servers send them, cut to a few tokens, for the tests of frames and pictures."""

from __future__ import annotations

from typing import Any

from tests.completion.records import alternative, choice, prompted, record, sampled
from toolkit.completion.record import Completion
from toolkit.completion.response import strict

OPENAI: dict[str, Any] = {
    "id": "cmpl-oa",
    "object": "text_completion",
    "model": "davinci",
    "choices": [
        {
            "index": 0,
            "text": " a\xe9!",
            "finish_reason": "length",
            "logprobs": {
                "tokens": [" a", "bytes:\\xc3", "bytes:\\xa9", "!"],
                "token_logprobs": [-0.5, -2.0, -0.25, -9999.0],
                "top_logprobs": [
                    {" a": -0.5, " b": -1.5},
                    {" x": -0.5, " y": -1.0, "bytes:\\xc3": -2.0},
                    {"bytes:\\xa9": -0.25, "?": -3.0},
                    {".": -0.1, "?": -3.0, "!": -9999.0},
                ],
                "text_offset": [5, 7, 7, 8],
            },
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6},
}
"""Two alternatives asked for: the second and fourth tokens are added to them."""

LLAMA_CPP_PYTHON: dict[str, Any] = {
    "id": "cmpl-lcp",
    "object": "text_completion",
    "model": "m.gguf",
    "choices": [
        {
            "index": 0,
            "text": "The cat sat",
            "finish_reason": "length",
            "logprobs": {
                "tokens": ["The", " cat", " sat"],
                "token_logprobs": [None, -3.0, -1.0],
                "top_logprobs": [None, {" man": -2.0, " cat": -3.0}, {" sat": -1.0}],
                "text_offset": [0, 3, 7],
            },
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
"""With `echo`: the first entry is null, and the usage tells where the prompt ends."""

VLLM: dict[str, Any] = {
    "id": "cmpl-vllm",
    "object": "text_completion",
    "model": "m",
    "prompt_token_ids": None,
    "choices": [
        {
            "index": 0,
            "text": " up",
            "finish_reason": "stop",
            "stop_reason": 99,
            "logprobs": {
                "tokens": [" up"],
                "token_logprobs": [-0.75],
                "top_logprobs": [{" up": -0.75, " on": -1.25}],
                "text_offset": [0],
            },
            "prompt_logprobs": [
                None,
                {
                    "31": {"logprob": -4.0, "rank": 12, "decoded_token": " go"},
                    "7": {"logprob": -0.5, "rank": 1, "decoded_token": " be"},
                },
            ],
            "token_ids": [44],
            "prompt_token_ids": [1, 31],
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "\U0001f600ok"},
            "finish_reason": "stop",
            "logprobs": {
                "content": [
                    {
                        "token": "\\xf0\\x9f",
                        "bytes": [240, 159],
                        "logprob": -1.0,
                        "top_logprobs": [],
                    },
                    {
                        "token": "\\x98\\x80",
                        "bytes": [152, 128],
                        "logprob": -0.5,
                        "top_logprobs": [],
                    },
                    {
                        "token": "ok",
                        "bytes": None,
                        "logprob": -2.0,
                        "top_logprobs": [
                            {"token": "no", "bytes": None, "logprob": -0.25},
                            {"token": "ok", "bytes": None, "logprob": -2.0},
                        ],
                    },
                ],
                "refusal": None,
            },
        }
    ],
}

LLAMA_CPP: dict[str, Any] = {
    "index": 0,
    "content": "hi",
    "model": "m.gguf",
    "stop_type": "limit",
    "tokens_predicted": 1,
    "tokens_evaluated": 5,
    "timings": {"predicted_per_second": 20.0},
    "completion_probabilities": [
        {
            "id": 6151,
            "token": "hi",
            "bytes": [104, 105],
            "logprob": -1.5,
            "top_logprobs": [
                {"id": 9, "token": "yo", "bytes": [121, 111], "logprob": -0.5},
                {"id": 6151, "token": "hi", "bytes": [104, 105], "logprob": -1.5},
            ],
        }
    ],
}

SCORED = {
    "id": "cmpl-s",
    "object": "text_completion",
    "created": 1,
    "model": "toy",
    "choices": [
        {
            "index": 0,
            "text": "cd",
            "finish_reason": "length",
            "logprobs": {
                "content": [
                    {"token": c, "bytes": [ord(c)], "logprob": -float(i), "top_logprobs": []}
                    for i, c in enumerate("bcd", start=1)
                ]
            },
        }
    ],
}
"""The specification's shape for the prompt "ab" with `prompt_logprobs` and without `echo`."""


def hostile(text: str = "<script>alert(1)</script>") -> dict[str, Any]:
    """A chat answer of one token."""
    entry = {"token": text, "bytes": list(text.encode()), "logprob": -1.0, "top_logprobs": []}
    other = {**entry, "logprob": -0.5, "token": '"><b>', "bytes": list(b'"><b>')}
    entry["top_logprobs"] = [other]
    message = {"role": "assistant", "content": text}
    logprobs = {"content": [entry]}
    return {
        "id": "x",
        "choices": [
            {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        ],
    }


def ours(**fields: Any) -> Completion:
    """ "hi" continued with "a", dropped alternatives included, and EOS."""
    top = (
        alternative(122, -0.5, sampling_logprob=-0.25),
        alternative(121, -0.75, sampling_logprob=float("-inf"), dropped_by="top_p"),
    )
    first = sampled(
        97,
        2,
        -1.5,
        rank=3,
        entropy=2.0,
        sampling_logprob=-2.0,
        sampling_entropy=1.0,
        support=2,
        kept_mass=0.75,
        bias=0.5,
        penalty=0.0,
        top=top,
    )
    end = sampled(256, 3, -0.25, contributes=False, support=1)
    prompt = (prompted(104, 0, None, top=()), prompted(105, 1, -2.0, rank=4, entropy=3.0))
    answer = record(
        choice(
            first,
            end,
            text="hia",
            completion="a",
            echoed="hi",
            prompt_tokens=prompt,
            finish_reason="stop",
        ),
        echo=True,
        logprobs=2,
        temperature=0.5,
        stop=["\n"],
        **fields,
    )
    return Completion(strict(answer), answer)
