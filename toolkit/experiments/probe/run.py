"""`probe`: ask a target everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from toolkit.errors import InvalidRequest, RunError, TargetError
from toolkit.experiments.probe import draws, numbers, protocol, texts
from toolkit.experiments.probe.report import REFUSED, UNKNOWN, Check, Probe
from toolkit.experiments.probe.subject import Subject
from toolkit.experiments.target.named import as_target

CHECKS: tuple[tuple[str, Callable[[Subject], Check]], ...] = (
    ("logprobs under temperature", numbers.under_temperature),
    ("logprobs under top_p", numbers.under_top_p),
    ("logprobs", numbers.alternatives),
    ("top_p", numbers.nucleus),
    ("prompt forms", texts.prompt_forms),
    ("prompt tokens", texts.prompt_tokens),
    ("echo", texts.echo),
    ("echo scores", texts.rescoring),
    ("text_offset", texts.offsets),
    ("stop", texts.stops),
    ("max_tokens 0", texts.no_tokens),
    ("n", draws.several),
    ("seed", draws.seed),
    ("alone and in a list", draws.company),
    ("penalties", draws.penalties),
    ("logit_bias ±100", draws.bias),
    ("best_of", draws.best_of),
    ("suffix", protocol.suffix),
    ("guided_choice", protocol.guided),
    ("stream", protocol.stream),
    ("characters in streams", protocol.split_characters),
    ("unknown field", protocol.unknown_field),
    ("error", protocol.error_shape),
)


def probe(
    target: Any, *, model: str | None = None, api_key: str | None = None, prompt: str | None = None
) -> Probe:
    """Find out what a target means: which log-probabilities, offsets, stops, seeds, penalties, ...

    `target`: an address, a running server, a loaded model or a `Remote`. `model` and `api_key` are
    for an address. `prompt`: one after which several tokens are likely, for a model that is at home
    in another language than English. Fewer than forty short requests, about eighty to a server that
    gives one choice a request; nothing is trained, stored or changed.

    Raises TargetError where there is nobody to ask, InvalidRequest for what is no target.
    """
    examined = as_target(target, model=model, api_key=api_key)
    subject, began = Subject(examined, prompt), time.perf_counter()
    try:
        _ = subject.greedy  # whoever does not answer this has nothing to be asked about
        checks = tuple(_asked(subject, name, check) for name, check in CHECKS)
        return Probe(
            target=examined.name,
            checks=checks,
            requests=subject.requests,
            seconds=time.perf_counter() - began,
            identity=examined.identity(),
        )
    finally:
        if examined is not target:
            examined.close()


def _asked(subject: Subject, name: str, check: Callable[[Subject], Check]) -> Check:
    """One check; a request that is refused on its way is an answer too."""
    try:
        return check(subject)
    except (InvalidRequest, TargetError, RunError) as error:
        return Check(
            check=name,
            expected="an answer",
            observed=f"refused: {error}"[:160],
            verdict=REFUSED,
            value="refused",
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Anybody's server may send anything: one odd answer must not hide the other checks.
        seen = f"the answer cannot be read ({type(error).__name__}: {error})"[:160]
        return Check(check=name, expected="an answer", observed=seen, verdict=UNKNOWN)
