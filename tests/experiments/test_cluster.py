"""Ray: two nodes on this machine give the same run as one process, and a lost one loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import toolkit
from tests.experiments.runs import assert_equal, declare
from toolkit.errors import RunError
from toolkit.experiments.command import started

ROOT = str(Path(__file__).parents[2])


def test_other_places_are_refused(tmp_path, model):
    with pytest.raises(RunError, match="`--on` 'spark' is not known"):
        started(declare(tmp_path / "small.yaml", model), out=tmp_path / "run", on="spark")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a processor each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    variables = {"PYTHONPATH": ROOT, "JAX_PLATFORMS": "cpu"}
    ray.init(
        address=made.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": variables},
    )
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def declaration(tmp_path, model):
    return declare(tmp_path / "small.yaml", model, seeds=60)


@pytest.fixture
def whole(tmp_path, declaration):
    return started(declaration, out=tmp_path / "whole", progress=False)


# Ray's own code warns of its own future, and leaves files open.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_nodes_give_the_same_run(cluster, declaration, tmp_path, whole):
    run = started(declaration, out=tmp_path / "run", on="ray", progress=False)
    assert run.manifest["devices"]["actors"] == 2
    assert_equal(run, whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_loses_nothing(cluster, declaration, tmp_path, whole, monkeypatch):
    from toolkit.experiments import cluster as ours

    killed = []
    outcome = ours.RayCrew.next

    def kill_one(self):
        found = outcome(self)
        if not killed:
            import ray

            killed.append(ray.get(self._workers[0].pid.remote()))
            os.kill(killed[0], signal.SIGKILL)
        return found

    monkeypatch.setattr(ours.RayCrew, "next", kill_one)
    run = started(declaration, out=tmp_path / "run", on="ray", progress=False)
    assert killed and run.done
    assert_equal(run, whole)
    lines = (tmp_path / "run/responses.jsonl").read_bytes().splitlines()
    assert len(lines) == 240
    assert toolkit.open_run(tmp_path / "run").failures == {}
