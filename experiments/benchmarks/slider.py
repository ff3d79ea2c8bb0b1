"""How long Python takes from a moved slider to the new picture, on the default model's vocabulary.

    python -m experiments.benchmarks.slider

What the browser adds (the message there and back, the page's layout) is measured by the browser
test. The model does not run meanwhile, and nothing compiles; the last line says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

import toolkit
from toolkit.widgets import Explorer, explore

MOVES = {
    "temperature": np.arange(0.5, 2, 0.025),
    "top_p": np.arange(0.4, 1, 0.01),
    "min_p": np.arange(0, 0.3, 0.005),
    "typical_p": np.arange(0.4, 1, 0.01),
    "frequency_penalty": np.arange(-1.5, 1.5, 0.05),
}


def main() -> None:
    """Measure alone and against pinned parameters, and print a line for each slider."""
    with toolkit.load() as lm:
        explorer = explore(lm, "The capital of France is", temperature=0.8, top_p=0.9)
        explorer.session.sample(16)
        explorer.session.refresh()
        before = repr(lm.stats())
        for title in ("alone", "with A pinned"):
            for name, seconds in measured(explorer):
                median, most = np.percentile([wall for wall, _ in seconds], [50, 95]) * 1000
                busy = np.percentile([cpu for _, cpu in seconds], 95) * 1000
                size = len(explorer.picture.value) / 1000
                print(
                    f"{title:14} {name:18} median {median:6.1f} ms   p95 {most:6.1f} ms   "
                    f"of the processor {busy:5.1f} ms   {size:.0f} kB"
                )
            explorer.actions.pin.click()
        print("the model ran meanwhile:", repr(lm.stats()) != before)


def measured(explorer: Explorer) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Seconds of each move of a slider, on the clock and of the processor.

    All other parameters stay. On a busy machine only the second says what the work costs.
    """
    for name, values in MOVES.items():
        slider, seconds = explorer.controls[name].parts[0], []
        first = slider.value
        for value in values:
            began, busy = time.perf_counter(), time.thread_time()
            slider.value = float(value)
            seconds.append((time.perf_counter() - began, time.thread_time() - busy))
        slider.value = first
        yield name, seconds


if __name__ == "__main__":
    main()
