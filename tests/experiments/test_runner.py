"""The runner with targets that need no model: cells in flight, failures, stopping, going on."""

from __future__ import annotations

import collections
import itertools
import os
import shutil
import signal
import threading

import pytest

from tests.experiments.fakes import Fake
from tests.experiments.runs import assert_equal
from toolkit.errors import EngineClosed, InvalidRequest, RunError, TargetError
from toolkit.experiments import ask, store
from toolkit.experiments.progress import Progress
from toolkit.experiments.run import open_run
from toolkit.experiments.runner import GIVE_UP
from toolkit.experiments.sweep import sweep

GRID = {"temperature": [0, 0.5, 1]}


def run(target, out, **fields):
    fields = {"prompts": ["a", "b"], "grid": GRID, "seeds": 2, "progress": False} | fields
    return sweep(target, out=out, **fields)


def lines(out):
    return (out / store.RESPONSES).read_bytes().splitlines(keepends=True)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(ask, "_pause", lambda attempt, asked: 0.0)


def test_every_cell_is_asked_once(tmp_path):
    target = Fake()
    done = run(target, tmp_path)
    assert done.done and (done.answered, done.planned) == (12, 12)
    assert len(target.asked) == len(lines(tmp_path)) == 12
    assert done.requests["prompt"].tolist() == ["a"] * 6 + ["b"] * 6
    assert done.requests["param.temperature"].tolist() == [0, 0, 0.5, 0.5, 1, 1] * 2
    assert done.requests["seed"].tolist() == [0, 1] * 6


def test_again_asks_nothing(tmp_path):
    run(Fake(), tmp_path)
    target = Fake()
    assert run(target, tmp_path).done
    assert target.asked == []


def test_a_larger_grid_asks_only_what_is_new(tmp_path):
    before = run(Fake(), tmp_path).requests
    target = Fake()
    after = run(target, tmp_path, prompts=["b", "c", "a"], grid={"temperature": [1, 0.7, 0.5, 0]})
    assert len(target.asked) == 24 - 12
    assert set(before["cell_id"]) < set(after.requests["cell_id"])
    assert len(after.requests) == 24


def test_equal_prompts_are_asked_once_and_shown_twice(tmp_path):
    target = Fake()
    done = run(target, tmp_path, prompts=["a", "b", "a"])
    assert len(target.asked) == 12
    assert len(done.requests) == 18 and done.requests["cell_id"].nunique() == 12
    assert done.requests["prompt_index"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert len(done.tokens) == 24
    assert done.answered == done.planned == 12


def test_concurrency_is_bounded(tmp_path):
    gate = threading.Barrier(8)
    target = Fake(lambda fields: gate.wait(timeout=60))  # opens for eight together
    run(target, tmp_path, seeds=8)
    assert target.most == 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing has interrupted."""
    return run(Fake(), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def broken(whole, tmp_path):
    """The same before its frames were written."""
    folder = shutil.copytree(whole.path, tmp_path / "broken")
    for path in (folder / store.DONE, *folder.glob("*.parquet")):
        path.unlink()
    return folder


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.77, 0.9, 0.999, 1.0])
def test_killed_at_any_byte_and_resumed(whole, broken, share):
    path = broken / store.RESPONSES
    os.truncate(path, int(path.stat().st_size * share))
    left = len(store.outcomes(broken)[0])
    target = Fake()
    assert_equal(run(target, broken), whole)
    assert len(target.asked) == 12 - left
    found = [line[12:44] for line in lines(broken)]
    assert len(found) == len(set(found)) == 12


def test_killed_while_planning(whole, broken):
    (broken / store.RESPONSES).unlink()
    os.truncate(broken / store.REQUESTS, 700)
    assert_equal(run(Fake(), broken), whole)


def test_retries_where_it_is_right(tmp_path):
    tries = collections.Counter()

    def flaky(fields):
        tries[fields["prompt"], fields["temperature"], fields["seed"]] += 1
        if sum(tries.values()) % 3 == 0:
            raise TargetError("busy", code=429, retry=True, retry_after=0.0)

    assert run(Fake(flaky), tmp_path).done
    assert sum(tries.values()) > 12
    assert all(b'"error"' not in line for line in lines(tmp_path))


def test_no_retry_where_it_is_wrong(tmp_path):
    def refuse(fields):
        if fields["prompt"] == "b":
            raise TargetError("too long", code=400)

    target = Fake(refuse)
    done = run(target, tmp_path)
    assert not done.done and done.answered == 6
    assert len(target.asked) == 12
    assert set(done.failures.values()) == {"too long"}
    assert len(done.missing) == 6
    assert "6, the last with: too long" in repr(done)
    mended = Fake()
    assert run(mended, tmp_path).done
    assert {fields["prompt"] for fields in mended.asked} == {"b"}


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_is_wrong_for_all_ends_the_run_at_once(tmp_path, code):
    target = Fake(lambda fields: (_ for _ in ()).throw(TargetError("no key", code=code)))
    with pytest.raises(TargetError, match="no key"):
        run(target, tmp_path, seeds=50)
    assert len(target.asked) <= 9
    assert open_run(tmp_path).answered == 0


def test_a_server_that_is_gone_ends_the_run(tmp_path):
    def gone(fields):
        raise TargetError("cannot be reached", retry=True)

    with pytest.raises(TargetError, match=rf"{GIVE_UP} cells in a row.*cannot be reached.*go on"):
        run(Fake(gone), tmp_path, seeds=50)
    assert run(Fake(), tmp_path, seeds=50).done


def test_our_own_mistakes_are_raised(tmp_path):
    def broken(fields):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Fake(broken), tmp_path)


def test_a_closed_model_ends_the_run(tmp_path):
    def closed(fields):
        raise EngineClosed("closed")

    with pytest.raises(EngineClosed):
        run(Fake(closed), tmp_path)


def test_a_refused_cell_is_a_failure_of_its_own(tmp_path):
    def refuse(fields):
        if fields["seed"] == 1:
            raise InvalidRequest("no such seed")

    assert run(Fake(refuse), tmp_path).answered == 6


def test_ctrl_c_lets_cells_in_flight_finish(tmp_path, interruptible):
    count = itertools.count(1)

    def interrupt(fields):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    target = Fake(interrupt)
    partial = run(target, tmp_path, seeds=40)
    assert 3 <= partial.answered == len(target.asked) < 240
    assert not partial.done
    assert f"Go on with: toolkit run {tmp_path}" in repr(partial)
    assert len(partial.requests) == partial.answered
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    rest = Fake()
    assert run(rest, tmp_path, seeds=40).done
    assert len(rest.asked) == 240 - partial.answered


def test_ctrl_c_twice_drops_cells_in_flight(tmp_path, interruptible, monkeypatch):
    hang, count = threading.Event(), itertools.count(1)

    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)

    def begin(fields):
        if next(count) == 8:
            interrupt()
        hang.wait(timeout=60)

    monkeypatch.setattr(Progress, "say", interrupt)  # what the first one makes it say
    partial = run(Fake(begin), tmp_path, seeds=40)
    hang.set()
    assert partial.answered == 0


def test_a_full_disk_ends_the_run_and_it_goes_on(whole, tmp_path, monkeypatch):
    append, count = store.Journal.append, itertools.count()

    def full(self, data):
        if self.path.name == store.RESPONSES and next(count) == 5:
            raise RunError("full")
        append(self, data)

    monkeypatch.setattr(store.Journal, "append", full)
    with pytest.raises(RunError, match="full"):
        run(Fake(), tmp_path / "full")
    monkeypatch.undo()
    assert open_run(tmp_path / "full").answered == 5
    assert_equal(run(Fake(), tmp_path / "full"), whole)


def test_another_model_in_the_same_folder_is_refused(tmp_path):
    run(Fake(), tmp_path)
    other = Fake()
    other.identity = lambda: {"kind": "fake", "url": "http://fake/v1", "model": "other"}
    with pytest.raises(RunError, match="model fake before, other now"):
        run(other, tmp_path, seeds=3)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with store.locked(tmp_path), pytest.raises(RunError, match="another process"):
        run(Fake(), tmp_path)


def test_seeds_may_be_left_to_the_target(tmp_path):
    target = Fake()
    run(target, tmp_path, seeds=None)
    assert all("seed" not in fields for fields in target.asked)
