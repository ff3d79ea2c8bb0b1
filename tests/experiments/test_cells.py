"""Cells: names that depend on the request and on who answers, and on nothing else."""

from __future__ import annotations

import hashlib

import pytest

from toolkit.errors import RunError
from toolkit.experiments.cells import cell_id, in_shard, plan, read_shard, settings
from toolkit.experiments.declaration import check_declaration
from toolkit.experiments.prompts import PromptRow

IDENTITY = {"kind": "local", "weights": "w", "tokenizer": "t", "sampler": "1"}


def planned(prompts=("a", "b"), identity=IDENTITY, **fields):
    declared = check_declaration({"name": "x", "prompts": list(prompts), **fields}, "here")
    rows = [PromptRow(prompt=prompt) for prompt in prompts]
    return plan(rows, settings(declared), target="toy", identity=identity)


def ids(**fields):
    return [cell.id for cell in planned(**fields)]


def test_a_name_is_the_sum_of_canonical_json():
    text = (
        '{"request":{"prompt":"é","seed":0,"temperature":0.5},'
        '"target":{"kind":"local","sampler":"1","tokenizer":"t","weights":"w"}}'
    )
    (cell,) = planned(prompts=["é"], grid={"temperature": [0.5]})
    assert cell.id == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_order_is_prompt_setting_seed():
    cells = planned(grid={"temperature": [0, 1], "top_p": [0.5, 1]}, seeds=2)
    asked = [(c.prompt_index, c.setting.number, c.setting.fields["seed"]) for c in cells]
    assert asked[:5] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 2, 0)]
    assert len(cells) == len({c.id for c in cells}) == 16
    assert cells[2].setting.fields == {"temperature": 0, "top_p": 1, "seed": 0}


def test_zip_goes_side_by_side_and_crosses_the_grid():
    cells = planned(
        prompts=["a"], grid={"temperature": [0, 1]}, zip={"top_p": [0.1, 1], "top_k": [1, 2]}
    )
    asked = [(f["temperature"], f["top_p"], f["top_k"]) for f in (c.setting.fields for c in cells)]
    assert asked == [(0, 0.1, 1), (0, 1, 2), (1, 0.1, 1), (1, 1, 2)]


def test_changing_the_grid_renames_and_repeats_nothing():
    before = ids(grid={"temperature": [0, 0.5]})
    after = ids(grid={"temperature": [0.5, 0.7, 0], "top_p": [0.9, 1]}, prompts=["c", "a", "b"])
    assert set(before) < set(after)
    assert len(set(after)) == len(after) == 18


def test_defaults_and_spellings_make_no_other_request():
    plain = ids()
    assert ids(parameters={"temperature": 1, "top_p": 1.0, "echo": False, "stop": []}) == plain
    assert ids(parameters={"top_k": -1, "best_of": 1}) == plain
    assert ids(parameters={"logit_bias": {"7": 1}}) == ids(parameters={"logit_bias": {7: 1.0}})
    assert ids(parameters={"max_tokens": 5}) != plain


@pytest.mark.parametrize("key", ["weights", "tokenizer", "sampler"])
def test_another_model_or_sampler_makes_other_cells(key):
    assert not set(ids()) & set(ids(identity=IDENTITY | {key: "other"}))


def test_what_a_target_says_of_itself_does_not_count():
    assert ids(identity=IDENTITY | {"says": {"version": "2"}}) == ids()


def test_text_and_ids_are_different_prompts():
    identity = IDENTITY
    assert cell_id({"prompt": "1"}, identity) != cell_id({"prompt": [1]}, identity)


def test_the_same_setting_twice_is_refused():
    with pytest.raises(RunError, match="are the same request"):
        planned(grid={"top_k": [0, -1]})


def test_settings_that_do_not_fit_together_are_named():
    with pytest.raises(RunError, match=r"setting \{'best_of': 2\} is refused: `best_of` must be"):
        planned(grid={"best_of": [2]}, n=3)


def test_settings_that_are_refused_are_named_with_file_and_key():
    fields = {"name": "x", "prompts": ["a"], "n": 3}
    declared = check_declaration({**fields, "parameters": {"best_of": 2}}, "here")
    with pytest.raises(RunError, match=r"^a.yaml: `parameters.best_of`: the setting"):
        settings(declared, "a.yaml")
    declared = check_declaration({**fields, "grid": {"top_k": [0, -1]}}, "here")
    with pytest.raises(RunError, match=r"^a.yaml: `grid`: the settings .* are the same request"):
        settings(declared, "a.yaml")


def test_shards_share_the_cells_evenly_and_leave_none_out():
    names = ids(prompts=[f"p{i}" for i in range(500)], seeds=4)
    shards = [[name for name in names if in_shard(name, (i, 8))] for i in range(1, 9)]
    assert sorted(name for shard in shards for name in shard) == sorted(names)
    # 250 expected in each; six standard deviations of a binomial, 1e-8 in all.
    assert all(abs(len(shard) - 250) < 90 for shard in shards)
    assert all(in_shard(name, None) for name in names)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_shards_count_from_one(text):
    with pytest.raises(RunError, match="Count from 1"):
        read_shard(text)


def test_a_shard_is_read():
    assert read_shard("2/8") == (2, 8)
