"""Work in order, on another thread, that can be stopped."""

from __future__ import annotations

import threading

from toolkit.widgets.worker import Worker


def endless(begun: threading.Event, watch) -> None:
    """Works until it is stopped."""
    begun.set()
    while True:
        watch()


def test_work_runs_in_order_and_on_another_thread():
    done: list[object] = []
    worker = Worker(done.append, lambda: None)
    gate = threading.Event()
    worker.do(lambda watch: gate.wait())
    for number in range(3):
        worker.do(lambda watch, number=number: done.append(number))
    worker.do(lambda watch: done.append(threading.current_thread() is threading.main_thread()))
    gate.set()
    worker.wait()
    assert done == [0, 1, 2, False]
    assert not worker.busy


def test_stop_ends_what_runs_and_forgets_what_waits():
    done: list[object] = []
    worker, begun = Worker(done.append, lambda: None), threading.Event()
    worker.do(lambda watch: endless(begun, watch))
    worker.do(lambda watch: done.append("waited"))
    assert begun.wait(60)
    worker.stop()
    worker.wait()
    assert done == []
    worker.do(lambda watch: done.append("next"))
    worker.wait()
    assert done == ["next"]


def test_newer_work_ends_long_work_but_not_short_work():
    done: list[object] = []
    worker, begun = Worker(done.append, lambda: None), threading.Event()
    worker.do(lambda watch: endless(begun, watch), long=True)
    assert begun.wait(60)
    worker.do(lambda watch: done.append("newer"))
    worker.wait()
    assert done == ["newer"]


def test_a_failure_is_told_and_the_next_work_runs():
    told: list[object] = []
    worker = Worker(told.append, lambda: None)
    worker.do(lambda watch: told.append(1 // 0))
    worker.do(lambda watch: told.append("next"))
    worker.wait()
    assert [type(thing) for thing in told] == [ZeroDivisionError, str]


def test_once_nothing_waits_it_settles_even_if_work_failed_or_was_stopped():
    done: list[object] = []
    worker = Worker(lambda error: done.append(type(error)), lambda: done.append("settled"))
    gate = threading.Event()
    worker.do(lambda watch: gate.wait())
    worker.do(lambda watch: done.append(1 // 0))
    gate.set()
    worker.wait()
    assert done == [ZeroDivisionError, "settled"]
    begun = threading.Event()
    worker.do(lambda watch: endless(begun, watch))
    assert begun.wait(60)
    worker.stop()
    worker.wait()
    assert done == [ZeroDivisionError, "settled", "settled"]
