"""`explore`: sliders on the real distribution of a loaded model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw

from toolkit.completion.complete import LM
from toolkit.widgets.actions import CHOOSE, Actions
from toolkit.widgets.bars import top
from toolkit.widgets.bias import BiasTable
from toolkit.widgets.controls import controls
from toolkit.widgets.live import Live
from toolkit.widgets.names import shown
from toolkit.widgets.page import page
from toolkit.widgets.samples import samples
from toolkit.widgets.session import Session
from toolkit.widgets.settings import Settings
from toolkit.widgets.style import bundle, failure, faint, strip
from toolkit.widgets.text import text
from toolkit.widgets.walk import Walk
from toolkit.widgets.worker import Watch, Worker

SAMPLES = 5
REMARK = "Not all of the text was drawn by this request: it draws its own."
REFRESH = 0.1
"""Seconds between two pictures of a text that grows."""


def explore(lm: LM, prompt: str, **parameters: Any) -> Explorer:
    """Explore what sampling parameters do to the model's real distribution after a prompt.

    `parameters`: those of a completion that shape the draw, as `temperature=0.7, top_p=0.9`. The
    last expression of a cell shows it; `.params` is what the sliders say, ready for `lm.complete`.
    Sliders never run the model. Where a notebook serves widgets and cells on one thread (VS Code,
    ipykernel before 7), they wait for the cell that runs.

    Raises InvalidRequest for a parameter that breaks a rule.
    """
    return Explorer(lm, prompt, parameters)


class Explorer:
    """The widget. What it knows stands in `session`, which needs no browser."""

    def __init__(self, lm: LM, prompt: str, parameters: dict[str, Any]):
        self.session = Session(lm, prompt, Settings.of(parameters))
        self.worker = Worker(self._failed, self._settle)
        self._asked = 0
        self._drawing = threading.Lock()
        self._quiet = threading.local()
        self._options: tuple[int, ...] = ()
        self._told = 0.0
        self.message = ipw.HTML()
        self.picture = ipw.HTML()
        self.text = ipw.HTML()
        self.samples = ipw.HTML()
        self.actions = Actions()
        kind = ipw.Textarea if "\n" in prompt else ipw.Text  # one line drops line ends
        self.prompt = kind(prompt, continuous_update=False, layout=ipw.Layout(width="auto"))
        self.controls = {
            control.name: control
            for control in controls(
                self.session.settings,
                self._changed,
                vocab=lm.engine.config.vocab_size,
                context=lm.context,
            )
        }
        self.bias = BiasTable(
            lm.tokenizer,
            self.session.settings.logit_bias,
            lambda bias: self._changed("logit_bias", bias),
            self._note,
        )
        self.box = self._arranged()
        self._connect()
        self.session.refresh()
        self._show()

    # --- what programs use ------------------------------------------------------------------------

    @property
    def params(self) -> dict[str, Any]:
        """What the sliders say, as keyword arguments of `LM.complete`."""
        return self.session.settings.parameters

    @property
    def live(self) -> Live:
        """The distribution at the cursor, as arrays."""
        return self.session.refresh()

    @property
    def completion(self) -> str:
        """The text after the prompt, up to the cursor."""
        ids = [step.id for step in self.session.walk.before]
        return self.session.lm.tokenizer.decode(ids)

    def set(self, **parameters: Any) -> None:
        """Move the sliders. Raises InvalidRequest for a value out of range."""
        self.session.set(**parameters)
        for name in parameters:
            value = getattr(self.session.settings, name)
            (self.bias if name == "logit_bias" else self.controls[name]).show(value)
        self._draw()

    def wait(self) -> None:
        """Until what the buttons have started is done."""
        self.worker.wait()

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return bundle(self.box, self.text.value + self.picture.value, repr(self), options)

    def __repr__(self) -> str:
        return f"<Explorer of {self.session.walk.prompt!r:.80}: {self.params}>"

    # --- wiring -----------------------------------------------------------------------------------

    def _arranged(self) -> ipw.VBox:
        left = ipw.VBox(
            [*(control.box for control in self.controls.values()), self.bias.box],
            layout=ipw.Layout(flex="1 1 26em", max_width="34em", padding="0 1em 0 0"),
        )
        right = ipw.VBox(
            [self.text, self.actions.walking, self.picture, self.actions.looking, self.samples],
            layout=ipw.Layout(flex="2 1 34em"),
        )
        below = ipw.HBox([left, right], layout=ipw.Layout(flex_flow="row wrap"))
        return ipw.VBox([self.prompt, self.message, below])

    def _connect(self) -> None:
        a = self.actions
        self._on_value(self.prompt, self._restart)
        self._on_value(a.step, lambda step: self._go(lambda walk: walk.move(step)))
        self._on_value(a.choice, lambda token: token != CHOOSE[1] and self._force(f"#{token}"))
        self._on_value(a.typed, lambda typed: typed and self._force(typed))
        self._on_value(a.probe, self._probe)
        self._on_value(a.form, lambda _: self._show_copy())
        self._on_click(a.left, lambda: self._go(lambda walk: walk.move(walk.cursor - 1)))
        self._on_click(a.right, lambda: self._go(lambda walk: walk.move(walk.cursor + 1)))
        self._on_click(a.back, lambda: self._go(lambda walk: walk.back()))
        self._on_click(a.one, lambda: self._sample(1))
        self._on_click(a.end, lambda: self._sample(None))
        self._on_click(a.five, self._samples)
        self._on_click(a.stop, self.worker.stop)
        self._on_click(a.pin, lambda: self._pin(True))
        self._on_click(a.unpin, lambda: self._pin(False))

    def _on_value(self, widget: Any, handler: Callable[[Any], Any]) -> None:
        def changed(change: Any) -> None:
            if not getattr(self._quiet, "on", False):
                self._try(lambda: handler(change["new"]))

        widget.observe(changed, names="value")

    def _on_click(self, widget: ipw.Button, handler: Callable[[], Any]) -> None:
        widget.on_click(lambda _: self._try(handler))

    def _try(self, handler: Callable[[], Any]) -> None:
        """Show what goes wrong: the traceback of a callback would vanish in a log."""
        try:
            handler()
        except Exception as error:
            self._failed(error)

    # --- handlers that never run the model --------------------------------------------------------

    def _changed(self, name: str, value: Any) -> None:
        def change() -> None:
            self.session.set(**{name: value})
            self._note("")
            self._draw()

        self._try(change)

    def _pin(self, pinned: bool) -> None:
        (self.session.pin if pinned else self.session.unpin)()
        self.actions.unpin.disabled = not pinned
        self._draw()

    def _probe(self, typed: str) -> None:
        tokens = self.session.probe(typed)
        names = [shown(self.session.lm.tokenizer, token) for token in tokens]
        many = f"{typed!r} is {len(names)} tokens: {', '.join(names)}. The first is watched."
        self._note(many if len(tokens) > 1 else "")
        self._draw()

    def _note(self, message: str) -> None:
        self.message.value = strip(message, grave=False) if message else ""

    def _failed(self, error: Exception) -> None:
        self.message.value = failure(error)

    # --- handlers whose work may run the model: on the worker's thread ----------------------------

    def _do(self, work: Callable[[Watch], Any], *, long: bool = False) -> None:
        def run(watch: Watch) -> None:
            self.actions.stop.disabled = not long
            work(watch)

        self._note("")
        self.worker.do(run, long=long)

    def _settle(self) -> None:
        """What the work has led to, also if it was stopped or failed."""
        self.actions.stop.disabled = True
        self.session.refresh()
        self._show()

    def _restart(self, prompt: str) -> None:
        def restart(_: Watch) -> None:
            self.session.restart(prompt)
            self.samples.value = ""  # they belong to the other prompt

        self._do(restart)

    def _go(self, move: Callable[[Walk], None]) -> None:
        self._do(lambda _: move(self.session.walk))

    def _force(self, typed: str) -> None:
        self._do(lambda _: self.session.force(typed))

    def _sample(self, count: int | None) -> None:
        most = count or self.session.settings.max_tokens

        def sample(watch: Watch) -> None:
            self._note(self.session.sample(most, watch=watch, told=self._grow))

        self._do(sample, long=count is None)

    def _samples(self) -> None:
        def draw(watch: Watch) -> None:
            title = f"{SAMPLES} continuations from step {self.session.walk.cursor}"
            answer = self.session.samples(SAMPLES, watch=watch)
            self.samples.value = faint(title) + samples(answer)

        self._do(draw, long=True)

    # --- drawing ----------------------------------------------------------------------------------

    def _draw(self) -> None:
        """The picture under the present settings. Of several that wait only the last is drawn."""
        self._asked += 1
        mine = self._asked
        with self._drawing:
            if mine == self._asked:
                self.picture.value = page(self.session) or self.picture.value
                self._show_copy()

    def _grow(self) -> None:
        """The text alone, now and then while it becomes longer."""
        now = time.monotonic()
        if now - self._told > REFRESH:
            self._told = now
            self.text.value = text(self.session.walk)

    def _show(self) -> None:
        """Everything, after the text or the cursor has changed."""
        walk = self.session.walk
        self._quiet.on = True  # in this thread: who moves a slider meanwhile is heard
        try:
            self.actions.show_step(walk.cursor, len(walk.path))
            self._show_options()
            self.actions.typed.value = ""
        finally:
            self._quiet.on = False
        self.text.value = text(walk)
        self._draw()

    def _show_options(self) -> None:
        view = self.session.live()
        if view is None:
            return
        ids = tuple(map(int, top(view)))
        if ids != self._options:
            self._options = ids
            names = [
                (f"{shown(self.session.lm.tokenizer, token)}  #{token}", token) for token in ids
            ]
            self.actions.choice.options = [CHOOSE, *names]
        self.actions.choice.value = CHOOSE[1]

    def _show_copy(self) -> None:
        form = self.actions.form.value
        remark = "" if self.session.pure else REMARK
        self.actions.show_copy(self.session.spelled(form) if form else "", remark)
