"""The second half of validation: what needs the vocabulary, the context and the token ids."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from toolkit.completion.request.dialect import DEFAULT_LIMITS, Dialect, Limits
from toolkit.completion.request.fields import DEFAULT_MAX_TOKENS, CompletionRequest
from toolkit.completion.request.rules import refuse, show
from toolkit.sampling.params import SamplingParams


def check_tokens(
    request: CompletionRequest,
    prompts: Sequence[Sequence[int]],
    *,
    vocab_size: int,
    context: int,
    has_eos: bool,
    fim: bool,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[int, ...]:
    """Check a request against a model, and give the `max_tokens` of each prompt.

    `prompts`: token ids as the model will see them, BOS and infilling tokens included; nothing may
    look them up before. `context`: most tokens of prompt and completion together. `has_eos`: the
    vocabulary has an end-of-sequence token. `fim`: it has tokens to infill with.

    Raises InvalidRequest; one prompt that fails fails the request, and the message names it.
    """
    for position, ids in enumerate(prompts):
        _check_ids(ids, position, vocab_size)
    _check_vocabulary(request, vocab_size, limits)
    _check_guide(request, has_eos)
    _check_suffix(request, fim)
    return tuple(_budget(request, len(ids), i, context) for i, ids in enumerate(prompts))


def _check_ids(ids: Sequence[int], position: int, vocab_size: int) -> None:
    if not len(ids):
        message = f"`prompt` is empty (prompt {position}) and the model has no token to start with."
        raise refuse("prompt", f"{message} Give at least one token.")
    if min(ids) < 0 or max(ids) >= vocab_size:
        at = next(i for i, token in enumerate(ids) if not 0 <= token < vocab_size)
        message = f"`prompt` holds id {show(ids[at])} (prompt {position}, position {at})"
        raise refuse("prompt", f"{message}, but ids go from 0 to {vocab_size - 1}.")


def _check_vocabulary(request: CompletionRequest, vocab_size: int, limits: Limits) -> None:
    for name in ("logit_bias", "stop_token_ids"):
        for token in getattr(request, name):
            if not 0 <= token < vocab_size:
                message = f"`{name}` names id {show(token)}, but ids go from 0 to {vocab_size - 1}."
                raise refuse(name, message)
    for name in ("logprobs", "prompt_logprobs"):
        if getattr(request, name) == -1 and vocab_size > limits.max_logprobs:
            message = f"`{name}` -1 asks for all {vocab_size} tokens"
            raise refuse(
                name, f"{message}, but the limit here is {limits.max_logprobs}. Ask for fewer."
            )


def _check_guide(request: CompletionRequest, has_eos: bool) -> None:
    """A choice that begins a longer one can only be ended by EOS."""
    pair = prefix_pair(request.guided_choice or ())
    if pair is None or (has_eos and not request.ignore_eos):
        return
    short, long = map(show, pair)
    message = f"`guided_choice` {short} begins {long}, so EOS must decide between them"
    if has_eos:
        raise refuse("ignore_eos", f"{message}, but `ignore_eos` is true. Omit it.")
    raise refuse("guided_choice", f"{message}, but the model has no EOS. Remove one of them.")


def prefix_pair(choices: Sequence[str]) -> tuple[str, str] | None:
    """A choice and a longer one that begins with it, or None. Choices are distinct."""
    # In sorted order, whatever begins with a string comes right after that string.
    pairs = itertools.pairwise(sorted(choices))
    return next(((a, b) for a, b in pairs if b.startswith(a)), None)


def _check_suffix(request: CompletionRequest, fim: bool) -> None:
    if not request.suffix:
        return
    if not fim and request.dialect is Dialect.LEGACY:
        message = "`suffix` needs a model with fill-in-the-middle tokens; this has none. Omit it."
        raise refuse("suffix", message)
    if fim and not all(isinstance(prompt, str) for prompt in request.prompt):
        message = "`suffix` needs string prompts: token ids reach the model as they are. Omit it."
        raise refuse("suffix", message)
    scored = request.prompt_logprobs is not None or (request.echo and request.logprobs is not None)
    if fim and scored:
        message = "`suffix` makes a prompt of marks and two texts, which has no logprobs in order"
        raise refuse("suffix", f"{message}. Omit `prompt_logprobs`, and `echo` or `logprobs`.")


def _budget(request: CompletionRequest, length: int, position: int, context: int) -> int:
    """`max_tokens` of a prompt of this many tokens."""
    wanted, room = request.max_tokens, context - length
    tokens = f"`prompt` has {length} tokens (prompt {position})"
    if room < 0:
        raise refuse("prompt", f"{tokens}, but the context holds {context}. Shorten it.")
    if wanted is None and not room:
        message = f"{tokens} and fills the context of {context}, so nothing can be generated"
        raise refuse("prompt", f"{message}. Shorten it, or set `max_tokens` to 0 to score it.")
    if wanted is not None and wanted > room:
        message = f"`max_tokens` {show(wanted)} does not fit: {tokens}, the context holds {context}"
        raise refuse("max_tokens", f"{message}. Ask for at most {room}.")
    budget = min(DEFAULT_MAX_TOKENS, room) if wanted is None else wanted
    if request.min_tokens > budget:
        message = (
            f"`min_tokens` {request.min_tokens} does not fit: {tokens}, the context holds {context}"
        )
        raise refuse("min_tokens", f"{message}. Ask for at most {budget}.")
    return budget


def sampling_params(
    request: CompletionRequest, choice: int, seed: int, eos_ids: Sequence[int]
) -> SamplingParams:
    """What the sampler needs of a request, for candidate `choice` of one of its prompts.

    `seed`: the request's own, or the one drawn for it. `eos_ids` count unless `ignore_eos`.
    """
    stop_ids = (*(() if request.ignore_eos else eos_ids), *request.stop_token_ids)
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        typical_p=request.typical_p,
        repetition_penalty=request.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=request.logit_bias,
        seed=seed,
        choice=choice,
        min_tokens=request.min_tokens,
        stop_ids=tuple(dict.fromkeys(stop_ids)),
    )
