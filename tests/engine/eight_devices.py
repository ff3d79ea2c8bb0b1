"""Models on meshes. Run by test_mesh.py in a process of its own, which has eight devices."""

from __future__ import annotations

import collections
import concurrent.futures
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import toolkit
from tests.engine import meshes
from tests.engine.test_warmup import any_jobs, serve
from tests.models import test_adapter
from tests.models.test_family_logits import golden
from tests.models.tiny_families import CASES, prompts, weights, write_case
from toolkit.completion.run import Run
from toolkit.engine.engine import Engine
from toolkit.engine.job import Ended, Job, Prompted
from toolkit.engine.scheduler import Limits
from toolkit.models import checkpoint
from toolkit.models.families import read_config, weight_parts
from toolkit.models.sharding import Split
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.variant import Variant

MESHES = (
    {"data": 2, "model": 4},
    pytest.param({"data": 4}, marks=pytest.mark.slow),
    pytest.param({"model": 4}, marks=pytest.mark.slow),
)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
FAST = ("gpt2", "olmo2", "qwen3_moe-mixed")
"""Between them these have every part that is divided in a way of its own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of most tests."""
    return meshes.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Iterator[toolkit.LM]:
    """The same on one device."""
    with toolkit.load(folder, max_batch=meshes.BATCH) as lm:
        yield lm


@pytest.fixture(scope="module")
def expected(alone: toolkit.LM) -> dict[str, Any]:
    """What it answers there."""
    return meshes.answers(alone)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_a_mesh_gives_the_tokens_of_one_device(folder, alone, expected, mesh):
    with toolkit.load(folder, mesh=mesh, max_batch=meshes.BATCH) as lm:
        meshes.check_same(meshes.answers(lm), expected)
        for prompt in ("a", "the quick brown fox", "x" * 200):
            logits = lm.logits(prompt)
            assert logits.shape == (933,)
            np.testing.assert_allclose(logits, alone.logits(prompt), atol=1e-5, rtol=0)


def test_heads_that_do_not_divide_are_held_more_than_once(tmp_path):
    """12 query heads share 3: on 4 devices a device's 3 queries read one or two of them."""
    folder = meshes.write_model(tmp_path, num_attention_heads=12, num_key_value_heads=3)
    with toolkit.load(folder) as alone, toolkit.load(folder, mesh={"model": 4}) as lm:
        for prompt in ("the quick brown fox", "the quick brown fox jumps over the lazy dog"):
            np.testing.assert_allclose(lm.logits(prompt), alone.logits(prompt), atol=1e-5, rtol=0)


def test_an_adapter_is_merged_before_the_model_is_divided(folder, alone, tmp_path):
    made = test_adapter.pair(test_adapter.QUERY, 128, 64) | test_adapter.pair(
        test_adapter.DOWN, 64, 96
    )
    adapter = test_adapter.write_adapter(tmp_path / "lora", made)
    with (
        toolkit.load(folder, adapter=adapter) as one,
        toolkit.load(folder, adapter=adapter, mesh={"model": 4}) as lm,
    ):
        found, expected = lm.logits("the lazy dog"), one.logits("the lazy dog")
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert np.abs(expected - alone.logits("the lazy dog")).max() > 0.1


def test_half_precision_on_a_mesh(folder, alone):
    """bfloat16 keeps 8 bits: one part in 256 of logits of up to 4, and several roundings."""
    with toolkit.load(folder, dtype="bfloat16", mesh={"model": 4}) as lm:
        np.testing.assert_allclose(lm.logits("dog"), alone.logits("dog"), atol=0.1, rtol=0)


def test_strict_is_refused_where_devices_add(folder):
    with pytest.raises(toolkit.InvalidRequest, match="`strict` cannot hold with `mesh` model=2"):
        toolkit.load(folder, mesh={"model": 2}, strict=True)


@pytest.mark.slow
def test_strict_rows_have_the_same_bits_on_every_device(folder):
    asked = {"seed": 11, "max_tokens": 8, "logprobs": 3, "top_p": 0.9}
    with toolkit.load(folder, mesh={"data": 2}, strict=True, max_batch=8) as lm:
        alone = lm.complete("the lazy dog", **asked)
        others = [Run(lm, lm.parse(f"neighbour {i}", asked, stream=False)) for i in range(5)]
        among = lm.complete("the lazy dog", **asked)
        for other in others:
            other.finish()
    assert among["choices"] == alone["choices"]


@pytest.mark.slow
def test_two_models_share_the_devices(folder, expected):
    """Their programs take turns: devices that wait for each other meet them in the same order."""
    mesh = {"model": 4}
    with (
        toolkit.load(folder, mesh=mesh, max_batch=meshes.BATCH) as first,
        toolkit.load(folder, mesh=mesh, max_batch=meshes.BATCH) as second,
        concurrent.futures.ThreadPoolExecutor(2) as threads,
    ):
        for found in threads.map(meshes.answers, (first, second)):
            meshes.check_same(found, expected)


def test_a_warm_mesh_compiles_nothing(folder):
    with toolkit.load(folder, max_batch=meshes.BATCH, mesh={"data": 2, "model": 2}) as lm:
        new = lm.warm_up(rows=meshes.BATCH, tokens=64)
        assert new == len(lm.stats().compiles) > 20
        rng = random.Random(5)
        for _ in range(5):
            serve(lm.engine, any_jobs(rng, rng.randint(1, meshes.BATCH), 64))
        assert lm.stats().compiles[new:] == []


def test_each_device_holds_its_part(folder):
    with toolkit.load(folder, mesh={"data": 2, "model": 4}) as lm:
        steps = lm.engine.steps
        state = steps.empty(4, 256, np.dtype(np.float32))
        # 2 rows with one key/value head each (2 heads for 4 devices), 256 slots, 16 features.
        shapes = {x.sharding.shard_shape(x.shape) for x in jax.tree.leaves(state.cache)}
        assert shapes == {(2, 256, 16)}
        assert state.logits.sharding.shard_shape(state.logits.shape) == (2, 256)
        held = {s.device: 0 for s in lm.engine.leaves[0].addressable_shards}
        for leaf in lm.engine.leaves:
            for shard in leaf.addressable_shards:
                held[shard.device] += shard.data.nbytes
        # A quarter of the matrices, of a padded vocabulary, and the norms: 5 vectors of 64.
        vocab, qkv, out, mlp = 2 * 256 * 64, 64 * (2 + 2) * 16, 64 * 32, 3 * 24 * 64
        assert set(held.values()) == {4 * (vocab + 2 * (qkv + out + mlp) + 5 * 64)}


def decode_program(lm: toolkit.LM, variant: Variant, *, rows: int = 4) -> Any:
    """The compiled decode step."""
    steps = lm.engine.steps
    state = steps.empty(rows, 256, lm.engine.dtype)
    asked = Rows.stack([SamplingParams()] * rows, [Report()] * rows)
    tables, _ = pack([])
    lowered = steps.decode.lower(
        lm.engine.leaves, state, steps.put(asked, "batch"), steps.put(tables), None, 1, variant
    )
    return lowered.compile()


def collectives(program: Any) -> tuple[collections.Counter[str], dict[str, int]]:
    """How many of each kind a program has, and the most numbers that one of the kind moves."""
    counts, sizes = collections.Counter(), collections.defaultdict(int)
    for line in program.as_text().splitlines():
        for kind in COLLECTIVES:
            if match := re.search(rf"= (.*) {kind}(-start)?\(", line):
                counts[kind] += 1
                shapes = re.findall(r"\[([\d,]*)\]", match.group(1))
                moved = sum(int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)
                sizes[kind] = max(sizes[kind], moved)
    return counts, sizes


PLAIN = Variant(stages=frozenset({"temperature"}), top=20, details=False, guarded=False)
ALL = Variant()


@pytest.mark.parametrize(
    ("variant", "sums", "gathers"),
    [(PLAIN, 7, 5), pytest.param(ALL, 43, 9, marks=pytest.mark.slow)],
    ids=["plain", "all"],
)
def test_two_all_reduces_a_layer_and_no_large_gather(tmp_path, variant, sums, gathers):
    """One all-reduce for the embeddings, two a layer, and those of the draw: small ones, as the
    all-gathers are, which are for the best candidates (values and ids) and the devices' masses."""
    found = {}
    for layers in (2, 3):
        folder = meshes.write_model(tmp_path / str(layers), num_hidden_layers=layers)
        with toolkit.load(folder, mesh={"data": 2, "model": 4}) as lm:
            found[layers], sizes = collectives(decode_program(lm, variant))
    more = found[3] - found[2]
    assert more == {"all-reduce": 2}
    assert found[2] == {"all-reduce": 1 + 2 * 2 + sums, "all-gather": gathers}
    # Rows of a device x devices x candidates, ids and values; not [B, V] nor a cache.
    assert sizes["all-gather"] <= 2 * 4 * 128


def test_rows_alone_need_nothing_of_each_other(folder):
    with toolkit.load(folder, mesh={"data": 4}) as lm:
        assert not collectives(decode_program(lm, PLAIN))[0]


def next_logits(engine: Engine, ids: np.ndarray) -> np.ndarray:
    """The logits after a prompt."""
    job = Job(prompt=tuple(map(int, ids)), params=SamplingParams(), max_tokens=0, logits=True)
    _, events = engine.submit([job])
    prompted, ended = events.get(timeout=300), events.get(timeout=300)
    assert isinstance(prompted, Prompted) and isinstance(ended, Ended), (prompted, ended)
    assert prompted.logits is not None
    return np.asarray(prompted.logits)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_every_family_on_a_mesh_equals_hugging_face(name, tmp_path):
    raw = CASES[name]
    config = read_config(raw)
    parts = weight_parts(config)
    shapes = {part.name: part.shape for group in parts.values() for part in group}
    made = weights(shapes, offset=raw["model_type"].startswith("gemma"))
    split = Split.of(config, {"data": 2, "model": 2})
    assert split is not None
    decoder = checkpoint.load(write_case(tmp_path, raw, made), split=split)
    engine = Engine(decoder, limits=Limits(min_rows=2, groups=2, context=32), split=split)
    try:
        for ids, whole in zip(prompts(name), golden(name), strict=True):
            np.testing.assert_allclose(next_logits(engine, ids), whole[-1], atol=1e-5, rtol=0)
    finally:
        engine.close()
