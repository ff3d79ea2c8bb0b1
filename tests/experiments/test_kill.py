"""A run that is killed again and again, as a process, and resumed: every cell exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

import toolkit
from tests.experiments.runs import COMMAND, assert_equal, declare
from tests.experiments.runs import toolkit as command
from toolkit.experiments import store
from toolkit.experiments.run import Run


def begin(declaration: Path, out: Path) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [*COMMAND, "run", str(declaration), "--out", str(out), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": root},
    )


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_after(process: subprocess.Popen[bytes], path: Path, more: int) -> bool:
    """Kill a process once a file has grown by so many bytes; whether it ran until then."""
    begun = size(path)
    while process.poll() is None:
        if size(path) >= begun + more:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        try:
            process.wait(timeout=0.005)
        except subprocess.TimeoutExpired:
            continue
    return False


def check_cells(run: Run, count: int) -> None:
    """Every cell of the plan has one answer and one only."""
    lines = (run.path / store.RESPONSES).read_bytes().splitlines()
    cells = [line[12:44] for line in lines]
    assert run.done and run.answered == run.planned == count
    assert len(cells) == len(set(cells)) == count


def test_killed_once_resumed_and_replayed_each_in_a_new_process(model, tmp_path):
    declaration = declare(tmp_path / "small.yaml", model, seeds=40)
    out = tmp_path / "killed"
    process = begin(declaration, out)
    assert kill_after(process, out / store.RESPONSES, 1)
    left = len(store.outcomes(out)[0])
    assert 0 < left < 160
    assert command("run", out, "--quiet").returncode == 0
    check_cells(toolkit.open_run(out), 160)
    again = command("replay", out, "--sample", "40", "--quiet")
    assert (again.returncode, again.stdout) == (0, "40 cells asked again: 40 bitwise.\n")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_thousand_cells_killed_twenty_times(model, tmp_path):
    prompts = [chr(ord("a") + i % 26) + chr(ord("a") + i // 26) for i in range(100)]
    declaration = declare(
        tmp_path / "large.yaml",
        model,
        prompts=prompts,
        grid={"temperature": [0, 0.5, 1, 1.5]},
        seeds=5,
        metrics=["entropy", "diversity"],
    )
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert command("run", declaration, "--out", whole, "--quiet").returncode == 0
    check_cells(toolkit.open_run(whole), 2000)
    chance, kills = random.Random(7), 0
    while kills < 20:
        # Until planning, in it, before the first answer, and anywhere up to 160 answers later.
        where = chance.choice([store.MANIFEST, store.REQUESTS, *[store.RESPONSES] * 6])
        more = 1 if where == store.MANIFEST else chance.randrange(0, 200_000)
        if not (out / store.REQUESTS).exists() or where == store.RESPONSES:
            killed = kill_after(begin(declaration, out), out / where, more)
        else:
            killed = kill_at_start(begin(declaration, out), chance.random() * 5)
        assert killed or (out / store.DONE).exists()
        kills += killed
        if (out / store.DONE).exists():  # killed too late: the frames shall be written again
            (out / store.DONE).unlink()
    assert command("run", declaration, "--out", out, "--quiet").returncode == 0
    check_cells(toolkit.open_run(out), 2000)
    assert_equal(toolkit.open_run(out), toolkit.open_run(whole))
    for file in out.iterdir():
        assert not file.name.endswith((".part", ".growing")), file


def kill_at_start(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a process after a time; whether it still ran."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False
