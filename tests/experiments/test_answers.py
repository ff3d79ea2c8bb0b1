"""Servers that answer 200 and say something else than was asked for."""

from __future__ import annotations

import json

import pytest

from tests.experiments import fakes
from tests.experiments.fakes import Fake
from toolkit.experiments import ask, store
from toolkit.experiments.run import open_run
from toolkit.experiments.sweep import sweep
from toolkit.experiments.target import Answer

ERROR = {"error": {"message": "out of memory on node 7"}}


class Odd(Fake):
    """Sends a body of its own for the prompt "odd", `times` times."""

    def __init__(self, body, times=1_000):
        super().__init__()
        self.body, self.left = body, times

    def complete(self, fields):
        answer = super().complete(fields)
        if fields["prompt"] != "odd" or self.left == 0:
            return answer
        self.left -= 1
        return Answer(body=self.body, seconds=0.5)


def run(target, out, **fields):
    fields = {"prompts": ["a", "odd"], "progress": False} | fields
    return sweep(target, out=out, **fields)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(ask, "_pause", lambda attempt, asked: 0.0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ERROR, "out of memory on node 7"),
        ({"error": "boom", "choices": []}, "boom"),
        ({"detail": "no such model"}, "no such model"),
        ({"choices": None}, "without `choices`"),
        ({"choices": []}, "without `choices`"),
        ({}, "without `choices`"),
        ({"choices": {"text": "a"}}, "without `choices`"),
        ({"choices": ["a"]}, "without `choices`"),
        ({"choices": [{"index": 0, "text": None}]}, "without `choices`"),
        ({"choices": [{"index": 0}]}, "without `choices`"),
        ({"choices": fakes.body({"n": 2})["choices"]}, "1 choices were asked for, and 2 came"),
    ],
)
def test_what_is_no_answer_is_a_failure_and_is_asked_again(tmp_path, body, said):
    done = run(Odd(body), tmp_path)
    assert not done.done and (done.answered, len(done.missing)) == (1, 1)
    (message,) = done.failures.values()
    assert said in message and said in repr(done)
    assert done.requests["prompt"].tolist() == ["a"]
    mended = Fake()
    assert run(mended, tmp_path).done
    assert [fields["prompt"] for fields in mended.asked] == ["odd"]


def test_too_few_choices_are_a_failure(tmp_path):
    done = run(Odd(fakes.body({"n": 2})), tmp_path, n=3)
    assert next(iter(done.failures.values())).startswith("3 choices were asked for, and 2 came")


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        ({"message": "busy", "code": 503}, 5),
        ({"message": "busy"}, 5),
        ("busy", 5),
        ({"message": "too long", "code": 400}, 1),
        ({"message": "no key", "code": 401}, 1),
    ],
)
def test_errors_with_status_200_are_tried_again_where_it_is_right(tmp_path, error, tries):
    target = Odd({"error": error})
    run(target, tmp_path)
    assert [fields["prompt"] for fields in target.asked].count("odd") == tries


def test_an_error_that_passes_is_no_failure(tmp_path):
    assert run(Odd(ERROR, times=2), tmp_path).done


@pytest.mark.parametrize("body", [ERROR, {"choices": None}, {"choices": []}, {"choices": [{}]}])
def test_a_recorded_body_without_choices_is_no_answer(tmp_path, body):
    whole = run(Fake(), tmp_path)
    path = tmp_path / store.RESPONSES
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["body"] = body
    path.write_bytes(b"".join(map(store.line, lines)))
    assert open_run(tmp_path).missing == [lines[0]["cell_id"]]
    (tmp_path / store.DONE).unlink()  # as a run that died over it
    target = Fake()
    again = run(target, tmp_path)
    assert again.done and len(target.asked) == 1
    assert again.requests["text"].tolist() == whole.requests["text"].tolist()
