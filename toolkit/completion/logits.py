"""The model's own logits of the token that would come next. Nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toolkit.completion.request import Dialect, check_tokens, parse
from toolkit.completion.run import prompt_part
from toolkit.engine.job import Failed, Job, Prompted
from toolkit.errors import InvalidRequest
from toolkit.sampling.params import SamplingParams

if TYPE_CHECKING:
    from toolkit.completion.complete import LM


def next_logits(lm: LM, prompt: str | Sequence[int], *, add_special_tokens: bool) -> np.ndarray:
    """Logits after one prompt: `[V]`; see `LM.logits`."""
    request = parse(
        {"prompt": prompt, "max_tokens": 0, "add_special_tokens": add_special_tokens},
        dialect=Dialect.PYTHON,
    )
    if len(request.prompt) != 1:
        message = f"`prompt` must be one prompt here, got {len(request.prompt)}."
        raise InvalidRequest(f"{message} Call `logits` for each of them.", param="prompt")
    ids = prompt_part(lm, request, 0).ids
    check_tokens(
        request,
        [ids],
        vocab_size=lm.tokenizer.vocab_size,
        context=lm.context,
        has_eos=bool(lm.tokenizer.eos_ids),
        fim=lm.tokenizer.fim is not None,
    )
    job = Job(prompt=ids, params=SamplingParams(), max_tokens=0, logits=True)
    tickets, events = lm.engine.submit([job])
    try:
        event = events.get()
    finally:
        lm.engine.cancel(tickets)
    if isinstance(event, Failed):
        raise event.error
    assert isinstance(event, Prompted) and event.logits is not None, "the job asked for them"
    return np.array(event.logits, np.float32)
