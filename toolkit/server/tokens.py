"""The tokenizer over HTTP, in the shapes of vLLM, which lm-evaluation-harness reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toolkit.completion.complete import LM
from toolkit.completion.request import Dialect
from toolkit.completion.request.rules import Boolean, Rule, Text, as_integer, quote, refuse, wrong
from toolkit.completion.text import Tokenizer
from toolkit.errors import InvalidRequest

Find = Callable[[str | None], LM]


class _TokenIds(Rule):
    """A list of token ids, kept as it is."""

    def read(self, value: Any, name: str, dialect: Dialect) -> list[int]:
        ids = [as_integer(item) for item in value] if isinstance(value, list) else [None]
        known = [token for token in ids if token is not None]
        if len(known) < len(ids):
            raise wrong(name, "a list of token ids (integers)", value)
        return known


TOKENIZE: dict[str, Rule] = {
    "model": Text(),
    "prompt": Text(),
    "add_special_tokens": Boolean(),
    "return_token_strs": Boolean(),
}
DETOKENIZE: dict[str, Rule] = {"model": Text(), "tokens": _TokenIds()}


def information(lm: LM) -> dict[str, Any]:
    """The surface strings of the special tokens, and the sizes."""
    tokenizer = lm.tokenizer
    return {
        "model": lm.name,
        "bos_token": _surface(tokenizer, tokenizer.bos_id),
        "eos_token": _surface(tokenizer, next(iter(tokenizer.eos_ids), None)),
        "pad_token": None,
        "chat_template": None,
        "model_max_length": lm.context,
        "vocab_size": tokenizer.vocab_size,
    }


def tokenized(fields: object, find: Find) -> dict[str, Any]:
    """The ids of `prompt`; as for a completion, with a BOS if the tokenizer puts one in front.

    Raises InvalidRequest and ModelNotFound.
    """
    given = _read(fields, TOKENIZE, "prompt")
    lm = find(given.get("model"))
    text, special = given["prompt"], given.get("add_special_tokens", True)
    if text:
        ids = lm.tokenizer.encode(text, add_special_tokens=special)
    else:  # the start of a document for a completion, but no text has no tokens
        ids = list(lm.tokenizer.specials.prefix_ids) if special else []
    names = [lm.tokenizer.token_str(token) for token in ids]
    return {
        "count": len(ids),
        "max_model_len": lm.context,
        "tokens": ids,
        "token_strs": names if given.get("return_token_strs") else None,
    }


def detokenized(fields: object, find: Find) -> dict[str, Any]:
    """The text of `tokens`; special ones are shown by their surface string.

    Raises InvalidRequest and ModelNotFound.
    """
    given = _read(fields, DETOKENIZE, "tokens")
    tokenizer = find(given.get("model")).tokenizer
    for token in given["tokens"]:
        if not 0 <= token < tokenizer.vocab_size:
            raise wrong("tokens", f"ids from 0 to {tokenizer.vocab_size - 1}", token)
    return {"prompt": tokenizer.decode(given["tokens"])}


def _read(fields: object, rules: Mapping[str, Rule], required: str) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    for name in fields:
        if name not in rules:
            raise refuse(name, f"{quote(name)} is not a field here. Use {', '.join(rules)}.")
    given = {name: value for name, value in fields.items() if value is not None}
    if required not in given:
        raise refuse(required, f"`{required}` is required. Add it to the request.")
    return {name: rules[name].read(value, name, Dialect.LEGACY) for name, value in given.items()}


def _surface(tokenizer: Tokenizer, token: int | None) -> str | None:
    return None if token is None else tokenizer.token_str(token)
