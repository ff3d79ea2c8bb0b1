"""How a model is divided: sizes, rows and columns of each device, and what is refused.

What devices compute together is tested in tests/engine/test_mesh.py.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from toolkit.errors import InvalidRequest
from toolkit.models.config import ModelConfig
from toolkit.models.sharding import RULES, VOCAB_BLOCK, Split, cut, part_of, spec
from toolkit.sampling import sums, vocabulary

CONFIG = ModelConfig(
    family="llama",
    vocab_size=600,
    width=8,
    mlp_width=4,
    layers=1,
    heads=4,
    kv_heads=2,
    head_width=2,
    context=16,
)
TWELVE = dataclasses.replace(CONFIG, heads=12, kv_heads=3)


def split(model: int, config: ModelConfig = CONFIG) -> Split:
    """Over devices that need not be there."""
    mesh: Any = AbstractMesh((1, model), ("data", "model"))
    return Split(mesh=mesh, config=config, part=part_of(config, model))


def rows(count: int) -> np.ndarray:
    """A matrix whose rows say their number."""
    return np.repeat(np.arange(count, dtype=np.int32)[:, None], 3, axis=1)


def held(model: int, leaf: str, count: int, config: ModelConfig = CONFIG) -> list[list[int]]:
    """The rows that each device holds of a leaf of so many."""
    whole = split(model, config)
    shares = [whole.share(leaf, [rows(count)], shard) for shard in range(model)]
    return [np.concatenate(share)[:, 0].tolist() for share in shares]


def test_the_table_names_the_axis_and_the_blocks_of_the_sampler():
    assert RULES["vocab"] == vocabulary.AXIS
    assert VOCAB_BLOCK == sums.BLOCK
    assert spec(("batch", "kv_heads"), None, "width") == PartitionSpec(
        ("data", "model"), None, None
    )


@pytest.mark.parametrize(
    ("config", "model", "heads", "kv_heads"),
    [(CONFIG, 2, 2, 1), (CONFIG, 4, 1, 1), (TWELVE, 3, 4, 1), (TWELVE, 2, 6, 3), (TWELVE, 4, 3, 3)],
)
def test_heads_of_a_part(config, model, heads, kv_heads):
    part = part_of(config, model)
    assert (part.heads, part.kv_heads, part.heads % part.kv_heads) == (heads, kv_heads, 0)


def test_a_part_of_the_vocabulary_is_whole_blocks():
    assert part_of(CONFIG, 1).vocab_size == 600
    assert part_of(CONFIG, 2).vocab_size == 512  # 3 blocks of 256 make 2 on each of 2 devices
    assert part_of(CONFIG, 4).vocab_size == 256


def test_queries_keys_and_values_go_together():
    """8 rows of queries, 4 of keys, 4 of values, 2 a head; two queries share a key."""
    assert held(2, "blocks.0.qkv.kernel", 16) == [
        [0, 1, 2, 3, 8, 9, 12, 13],
        [4, 5, 6, 7, 10, 11, 14, 15],
    ]
    assert held(4, "blocks.0.qkv.bias", 16)[1] == [2, 3, 8, 9, 12, 13]


def test_keys_that_do_not_divide_are_held_more_than_once():
    """24 rows of queries and 6 of keys: four queries share a key, and a device has six."""
    first, second = held(2, "blocks.0.qkv.kernel", 36, TWELVE)
    assert first[:12] == list(range(12))
    assert first[12:18] == [24, 25, 24, 25, 26, 27]
    assert second[12:] == [26, 27, 28, 29, 28, 29, 32, 33, 34, 35, 34, 35]


def test_gate_and_up_go_together():
    assert held(2, "blocks.0.gate_up.kernel", 8) == [[0, 1, 4, 5], [2, 3, 6, 7]]
    experts = dataclasses.replace(CONFIG, experts=2, expert_width=2)
    assert held(2, "blocks.0.mixture.gate_up", 8, experts) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_columns_are_divided_where_the_inputs_are():
    kernel = np.arange(24, dtype=np.int32).reshape(3, 8)
    for leaf in ("blocks.0.output.kernel", "blocks.0.down.kernel", "blocks.0.mixture.down"):
        (second,) = split(4).share(leaf, [kernel], 1)
        assert second.tolist() == [[2, 3], [10, 11], [18, 19]]
        assert second.base is not None, "a view"


def test_the_vocabulary_is_filled_up_at_its_end():
    first, second, third = held(3, "embedding", 600)
    assert (first, second) == (list(range(256)), list(range(256, 512)))
    assert third == [*range(512, 600), *[0] * 168]


def test_norms_are_whole_but_for_those_over_all_heads():
    assert held(2, "norm.scale", 8) == [list(range(8))] * 2
    assert held(2, "blocks.0.query_norm.scale", 2) == [[0, 1]] * 2
    whole = dataclasses.replace(CONFIG, query_key_norm="whole")
    assert held(2, "blocks.0.query_norm.scale", 8, whole) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert held(4, "blocks.0.key_norm.scale", 4, whole) == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_cut_crosses_arrays():
    pieces = cut([rows(2), rows(3), rows(2)], 1, 6)
    assert [piece[:, 0].tolist() for piece in pieces] == [[1], [0, 1, 2], [0]]


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (
            {"model": 3},
            "`mesh` model=3 must divide the 4 query heads of this model. Use model=1 or",
        ),
        ({"model": 4.0}, "`mesh` must have whole numbers, 1 or more, got model=4.0"),
        ({"data": 0}, "`mesh` must have whole numbers, 1 or more, got data=0"),
        ({"data": True}, "`mesh` must have whole numbers"),
        ({"rows": 2}, "`mesh` must have the axes 'data' and 'model' and no others"),
        ("data=2", "`mesh` must have the axes"),
        ({"data": 3}, "`mesh` data=3 must be a power of two, at most 128"),
        ({"data": 64, "model": 4}, "`mesh` data=64, model=4 asks for 256 devices, and there are"),
    ],
)
def test_a_mesh_that_cannot_work_is_refused(mesh, message):
    with pytest.raises(InvalidRequest) as refused:
        Split.of(CONFIG, mesh)
    assert refused.value.message.startswith(message)
    assert refused.value.param == "mesh"


def test_other_rules_that_a_mesh_breaks():
    with pytest.raises(InvalidRequest, match="not handled for `quant` 'int8'"):
        Split.of(dataclasses.replace(CONFIG, quant="int8"), {"model": 2})
    with pytest.raises(InvalidRequest, match="must divide the 6 hidden features"):
        Split.of(dataclasses.replace(CONFIG, mlp_width=6), {"model": 4})
    with pytest.raises(
        InvalidRequest, match=r"because all of them are normed together\. Use model=1"
    ):
        Split.of(dataclasses.replace(TWELVE, query_key_norm="whole"), {"model": 2})


def test_one_device_is_no_mesh():
    assert Split.of(CONFIG, None) is Split.of(CONFIG, {}) is Split.of(CONFIG, {"data": 1}) is None
