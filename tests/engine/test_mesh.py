"""Meshes: tests of eight devices in a process of their own, and two processes with one model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
import typer

import toolkit
from tests.engine import meshes
from toolkit.cli.serve import sizes_of

ROOT = Path(__file__).parents[2]


def environment(devices: int) -> dict[str, str]:
    """That of this process, with so many devices on the CPU."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    programs = jax.config.values["jax_compilation_cache_dir"]
    kept = {"JAX_COMPILATION_CACHE_DIR": programs} if programs else {}
    return {**os.environ, **kept, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


def test_sizes_that_cannot_work_are_refused_before_anything_is_read():
    with pytest.raises(toolkit.InvalidRequest, match="must divide the 9 query heads") as refused:
        toolkit.load(mesh={"model": 2})
    assert refused.value.param == "mesh"


def test_the_commands_option():
    assert sizes_of("data=2,model=4") == {"data": 2, "model": 4}
    assert sizes_of(None) is None
    for wrong in ("two", "data=two", "data=2=3", ""):
        with pytest.raises(typer.BadParameter, match="as data=2,model=4"):
            sizes_of(wrong)


def on_eight_devices(*options: str) -> None:
    """Run the tests of eight_devices.py."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *options]
    run = subprocess.run(
        [*command, "tests/engine/eight_devices.py"],
        cwd=ROOT,
        env=environment(8),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


def test_on_eight_devices():
    on_eight_devices("-m", "not slow")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_family_on_eight_devices():
    on_eight_devices("-m", "slow")


PROCESS = """
import json, sys
import jax
port, process, folder, mesh = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
import toolkit
from tests.engine import meshes
lm = toolkit.load(folder, mesh=json.loads(mesh), max_batch=meshes.BATCH)
try:
    toolkit.load(folder, mesh=json.loads(mesh))
    raise SystemExit("two at one time")
except toolkit.InvalidRequest as error:
    assert "one model at a time" in error.message
if process == "0":
    stream = lm.stream("cancelled", n=meshes.BATCH, max_tokens=100)
    next(stream)
    stream.close()
    logits = lm.logits("the quick brown fox").tolist()
    print(json.dumps([meshes.answers(lm), logits]))
else:
    try:
        lm.complete("refused")
    except toolkit.ToolkitError as error:
        print(json.dumps(error.message))
lm.close()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mesh", [{"data": 2, "model": 2}, {"model": 4}], ids=str)
def test_two_processes_serve_one_model(tmp_path, mesh):
    """Two devices each: the rows are divided between the processes, or each layer."""
    folder = meshes.write_model(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(number), str(folder), json.dumps(mesh)],
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        told = [process.communicate(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], told
    with toolkit.load(folder, max_batch=meshes.BATCH) as alone:
        expected = meshes.answers(alone)
        expected_logits = alone.logits("the quick brown fox").tolist()
    found, logits = _last(told[0][0])
    meshes.check_same(found, expected)
    assert logits == pytest.approx(expected_logits, abs=1e-5)
    assert "process 0 takes the requests" in _last(told[1][0])


def _last(out: str) -> Any:
    """What was printed last; the transport between processes prints too."""
    (line,) = [line for line in out.splitlines() if line.startswith(("[[", "[{", '"'))]
    return json.loads(line)
