"""Compiling ahead of the first request, for a server or before a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.completion.counts import check_count
from toolkit.completion.run import job_of, prompt_part
from toolkit.engine.warmup import warm_up as compile_for
from toolkit.errors import InvalidRequest

if TYPE_CHECKING:
    from toolkit.completion.complete import LM

USUAL = 256
"""Tokens of a sequence that nothing is said about."""
SIZES = {"prompt", "suffix", "n", "best_of", "max_tokens"}
"""Parameters that say how many sequences there are and how long they get."""


def warm_up(lm: LM, rows: int, tokens: int | None, parameters: Mapping[str, Any]) -> int:
    """See `LM.warm_up`."""
    # Not at the top: it takes a while to import, and a first token does not wait for it.
    from tqdm.auto import tqdm

    check_count("rows", rows, 1, lm.engine.limits.max_rows)
    tokens = min(USUAL, lm.context) if tokens is None else tokens
    check_count("tokens", tokens, 2, lm.context)
    for name in sorted(SIZES & parameters.keys()):
        raise InvalidRequest(
            f"`{name}` is no parameter of `warm_up`. `rows` says how many sequences run at a time, "
            "`tokens` how long each is.",
            param=name,
        )
    request = lm.parse([0], {"max_tokens": 1, **parameters}, stream=False)
    job = job_of(lm, request, 0, prompt_part(lm, request, 0), 0, 1)
    with tqdm(desc="Compiling", unit=" programs") as bar:

        def done(name: str, count: int) -> None:
            bar.total = count
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        return compile_for(lm.engine, job, rows=rows, tokens=tokens, done=done)
