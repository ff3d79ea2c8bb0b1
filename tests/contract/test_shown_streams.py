"""A stream that is looked at: in place in a notebook, running in a terminal."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import IPython
import IPython.display
import pytest

from toolkit.analysis import growing


@pytest.fixture
def notebook(monkeypatch) -> list[dict[str, str]]:
    """Every state of the cell's output, as a notebook would get it."""
    states: list[dict[str, str]] = []

    def display(bundle, *, raw, display_id):
        assert raw and display_id
        states.append(bundle)
        return SimpleNamespace(update=lambda bundle, *, raw: states.append(bundle))

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr(growing, "INTERVAL", 0.0)
    return states


def test_a_terminal_gets_the_text_as_it_comes(toy, capsys):
    answer = toy.stream("A", max_tokens=8, temperature=0).show()
    assert capsys.readouterr().out == "one two three\n"
    assert answer["choices"][0]["text"] == "one two three"
    assert answer == toy.complete("A", max_tokens=8, temperature=0) | {
        name: answer[name] for name in ("id", "created")
    }


def test_other_choices_follow_in_a_terminal(toy, capsys):
    toy.stream("A", max_tokens=8, temperature=0, n=3).show()
    assert capsys.readouterr().out == "one two three\n[1] one two three\n[2] one two three\n"


def test_a_notebook_grows_in_one_place_and_ends_with_the_answer(toy, notebook):
    toy.stream("A", max_tokens=8, temperature=0, logprobs=2)._ipython_display_()
    *grown, last = notebook
    texts = [state["text/plain"] for state in grown]
    assert texts[-1] == "one two three" and len(texts) > 2
    assert all(later.startswith(text) for text, later in itertools.pairwise(texts))
    assert "finish: stop" in last["text/html"] and "title=" in last["text/html"]


def test_what_was_read_before_and_what_was_cut_short(toy, notebook):
    stream = toy.stream("A", max_tokens=8, temperature=0)
    next(stream)
    assert stream.show()["choices"][0]["text"] == "one two three"
    stream = toy.stream("A", max_tokens=8, temperature=0)
    next(stream)
    stream.close()
    assert stream.show() is None


def test_hostile_text_acts_on_nothing(notebook, capsys):
    text = "<b>\x1b[31m\u202e\r&\n"
    chunks = [{"choices": [{"index": 0, "text": text}]}]
    page = growing.Notebook()
    growing.show(chunks, page)
    assert "&lt;b&gt;&lt;1B&gt;[31m&lt;202E&gt;&lt;0D&gt;&amp;\n" in page.html()
    growing.show(chunks, growing.Terminal())
    assert capsys.readouterr().out == "<b><1B>[31m<202E><0D>&\n"
