"""Metrics: numbers for each choice, by name. A run's frame has them as `metric.<name>`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Metric = Callable[["pd.DataFrame", "pd.DataFrame"], Any]
"""From the frames `requests` and `tokens` to one value for each row of `requests`."""

ROW = ["cell_id", "choice_index"]


def words(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """How many words the completion has."""
    return [len(text.split()) for text in _texts(requests)]


def repetition(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Share of word trigrams that the same text had before, 0 to 1; NA under three words."""
    return [_repeated(text.split()) for text in _texts(requests)]


def diversity(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Different word pairs over all word pairs, in all choices of one prompt and setting."""
    return _over_group(requests, lambda texts: _distinct(texts, 2))


def agreement(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Share of the commonest text among all choices of one prompt and setting."""
    return _over_group(requests, _commonest)


def correct(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """1 where the text begins with the prompt's `answer`, 0 where not, NA without one; white space
    in front and capitals do not count."""
    answers = requests.get("prompt.answer")
    if answers is None:
        return [None] * len(requests)
    pairs = zip(_texts(requests), answers, strict=True)
    return [None if missing(a) else float(_begins(t, str(a))) for t, a in pairs]


def _begins(text: str, answer: str) -> bool:
    return text.strip().casefold().startswith(answer.strip().casefold())


def entropy(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Mean entropy of the model's own distribution, in nats; needs `details`."""
    return _mean(requests, tokens, "entropy")


def kept_mass(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Mean probability that truncation left; needs `details`."""
    return _mean(requests, tokens, "kept_mass")


def support(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """Mean number of tokens that could be drawn; needs `details`."""
    return _mean(requests, tokens, "support")


def probability(requests: pd.DataFrame, tokens: pd.DataFrame) -> Any:
    """With which the text was drawn, 0 to 1: the product over its tokens after temperature,
    truncation and guide. Of guided choices, that of the choice in these very tokens."""
    import numpy as np

    drawn = tokens[tokens["segment"] == "completion"]
    sums = drawn.astype({"logprob_sampled": "float64"}).groupby(ROW)["logprob_sampled"]
    return np.exp(_of_rows(requests, sums.agg(lambda values: values.sum(skipna=False))))


METRICS: dict[str, Metric] = {
    "agreement": agreement,
    "correct": correct,
    "diversity": diversity,
    "entropy": entropy,
    "kept_mass": kept_mass,
    "probability": probability,
    "repetition": repetition,
    "support": support,
    "words": words,
}


def add(requests: pd.DataFrame, tokens: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The frame with a column `metric.<name>` for each name."""
    import pandas as pd

    columns = {}
    for name in names:
        values = pd.Series(METRICS[name](requests, tokens), index=requests.index, dtype="Float64")
        columns[f"metric.{name}"] = values.astype("float64")
    return requests.assign(**columns)


def missing(value: Any) -> bool:
    """Whether a cell of a frame holds nothing."""
    import pandas as pd

    return value is None or value is pd.NA or value != value


def _texts(requests: pd.DataFrame) -> list[str]:
    """The completions, without echoed prompts."""
    echoed = requests["param.echo"].fillna(False)
    rows = zip(requests["text"], requests["prompt"], echoed, strict=True)
    return [
        "" if missing(text) else text.removeprefix(prompt) if echo else text
        for text, prompt, echo in rows
    ]


def _over_group(requests: pd.DataFrame, measure: Callable[[list[str]], float | None]) -> Any:
    import pandas as pd

    texts = pd.Series(_texts(requests), index=requests.index, dtype=object)
    keys = [requests[name] for name in ("target", "prompt_index", "setting")]
    return texts.groupby(keys, sort=False).transform(lambda group: measure(list(group)))


def _mean(requests: pd.DataFrame, tokens: pd.DataFrame, column: str) -> Any:
    drawn = tokens[tokens["segment"] == "completion"]
    return _of_rows(requests, drawn.astype({column: "float64"}).groupby(ROW)[column].mean())


def _of_rows(requests: pd.DataFrame, values: Any) -> Any:
    """The value of each row's choice; rejected candidates have no tokens here."""
    return values.reindex(list(zip(*(requests[name] for name in ROW), strict=True))).to_numpy()


def _distinct(texts: list[str], n: int) -> float | None:
    grams = [gram for text in texts for gram in _grams(text.split(), n)]
    return len(set(grams)) / len(grams) if grams else None


def _commonest(texts: list[str]) -> float:
    return max(texts.count(text) for text in set(texts)) / len(texts)


def _repeated(words: list[str]) -> float | None:
    grams = _grams(words, 3)
    return 1 - len(set(grams)) / len(grams) if grams else None


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
