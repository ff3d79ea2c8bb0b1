"""Draw the pictures of the documentation: `python docs/pictures.py`. Seeded, so that they stay.

Those of the front door are taken in JupyterLab: `TOOLKIT_PICTURES=docs/pictures make test-browser`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import toolkit as tk
from toolkit.analysis.plots.style import Picture

FOLDER = Path(__file__).resolve().parent / "pictures"
SEA = "The best thing about living by the sea is the"


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    with tk.load(max_batch=16) as lm:
        save("temperature", settings(lm, "temperature", (0.3, 0.7, 1, 1.5)))
        save("top_p", settings(lm, "top_p", (0.1, 0.3, 0.6, 1)))
        save("min_p", settings(lm, "min_p", (0, 0.2, 0.4, 0.8)))
        save("typical_p", settings(lm, "typical_p", (0.1, 0.3, 0.6, 1)))
        drawn = lm.complete(SEA, max_tokens=32, top_p=0.9, logprobs=1, details=True, seed=3)
        save("nucleus", tk.plots.nucleus(tk.frames.tokens(drawn)))


def settings(lm: tk.LM, name: str, values: tuple[float, ...]) -> Any:
    """One position under several values of a parameter."""
    asked = {"max_tokens": 1, "logprobs": 20, "details": True, "seed": 3}
    answers = [lm.complete(SEA, **{name: value}, **asked) for value in values]
    frame = tk.frames.add_requests(
        tk.frames.candidates(answers), tk.frames.requests(answers), f"param.{name}"
    )
    return tk.plots.settings(frame, by=f"param.{name}", columns=4, most=12)


def save(name: str, figure: Any) -> None:
    """A light PNG, as notebooks show it."""
    assert isinstance(figure, Picture), "every plot is one"
    data, _ = figure._repr_png_()
    (FOLDER / f"{name}.png").write_bytes(data)


if __name__ == "__main__":
    main()
