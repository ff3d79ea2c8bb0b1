"""Shards: the same cells and the same run as in one process."""

from __future__ import annotations

import pytest

import toolkit
from tests.experiments.fakes import Fake
from tests.experiments.runs import assert_equal, declare
from toolkit.errors import RunError
from toolkit.experiments.conduct import Options, conduct, resolve
from toolkit.experiments.declaration import check_declaration
from toolkit.experiments.merge import merge


def run(folder, shard=None, **fields):
    import contextlib

    declared = check_declaration(
        {
            "name": "x",
            "targets": ["http://fake"],
            "prompts": ["a", "b"],
            "grid": {"temperature": [0, 0.5]},
            "seeds": 5,
            **fields,
        },
        "here",
    )
    options = Options(
        shard=shard, progress=False, opener=lambda part: contextlib.nullcontext(Fake())
    )
    return conduct(resolve(declared, folder), folder, options)


def shards(folder, n, **fields):
    return [run(folder / f"{i}", (i, n), **fields).path for i in range(1, n + 1)]


def test_three_shards_are_the_whole(tmp_path):
    whole = run(tmp_path / "whole")
    parts = shards(tmp_path, 3)
    joined = merge(parts, tmp_path / "joined")
    assert joined.done and joined.answered == 20
    assert_equal(joined, whole)
    assert [toolkit.open_run(part).answered for part in parts] != [20, 0, 0]


def test_what_is_missing_is_told_and_asked_later(tmp_path):
    whole = run(tmp_path / "whole")
    parts = shards(tmp_path, 3)
    joined = merge(parts[:2], tmp_path / "joined")
    assert not joined.done and joined.planned == 20
    assert_equal(run(tmp_path / "joined"), whole)
    assert_equal(merge(parts, tmp_path / "again"), whole)


def test_merging_again_takes_what_is_new(tmp_path):
    parts = shards(tmp_path, 2)
    assert not merge(parts[:1], tmp_path / "joined").done
    joined = merge(parts, tmp_path / "joined")
    assert joined.done
    lines = (tmp_path / "joined/responses.jsonl").read_bytes().splitlines()
    assert len(lines) == 20


def test_equal_prompts_are_counted_once(tmp_path):
    parts = shards(tmp_path, 2, prompts=["a", "b", "a"])
    assert merge(parts, tmp_path / "joined").done


def test_a_shard_says_how_to_go_on(tmp_path):
    told = repr(run(tmp_path / "one", (1, 3)))
    assert "shard: 1 of 3; join them with `toolkit merge`" in told


def test_other_declarations_and_models_are_refused(tmp_path):
    one = run(tmp_path / "one", (1, 2)).path
    other = run(tmp_path / "other", (2, 2), seeds=4).path
    with pytest.raises(RunError, match=r"their config.yaml differ"):
        merge([one, other], tmp_path / "joined")
    third = run(tmp_path / "third", (2, 2)).path
    text = (third / "manifest.json").read_text()
    (third / "manifest.json").write_text(text.replace('"model": "fake"', '"model": "else"'))
    with pytest.raises(RunError, match=r"asked another 'http://fake' than"):
        merge([one, third], tmp_path / "joined")
    with pytest.raises(RunError, match="is one of the parts"):
        merge([one], one)


def test_a_run_of_its_own_is_not_merged_over(tmp_path):
    parts = shards(tmp_path / "parts", 2)
    other = run(tmp_path / "other", seeds=3, prompts=["c"])
    before = {path.name: path.read_bytes() for path in other.path.iterdir() if path.is_file()}
    with pytest.raises(RunError, match="is a run of its own and no earlier merge"):
        merge(parts, other.path)
    after = {path.name: path.read_bytes() for path in other.path.iterdir() if path.is_file()}
    assert after == before
    same = run(tmp_path / "same")
    with pytest.raises(RunError, match="is a run of its own"):
        merge(parts, same.path)
    with pytest.raises(RunError, match="is a shard itself"):
        merge(parts[:1], parts[1])


def test_a_merge_of_something_else_is_not_merged_over(tmp_path):
    merge(shards(tmp_path / "one", 2, seeds=3), tmp_path / "joined")
    with pytest.raises(RunError, match="is a merge of another declaration"):
        merge(shards(tmp_path / "two", 2), tmp_path / "joined")


def test_files_of_somebody_else_are_not_merged_over(tmp_path):
    parts = shards(tmp_path / "parts", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text("x: 1")
    with pytest.raises(RunError, match=r"not empty and no run folder: it has config\.yaml"):
        merge(parts, tmp_path / "mine")
    assert (tmp_path / "mine/config.yaml").read_text() == "x: 1"
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="a file is in its place"):
        merge(parts, tmp_path / "file")


def test_a_part_is_given_once(tmp_path):
    (part,) = shards(tmp_path, 1)
    with pytest.raises(RunError, match="is given twice"):
        merge([part, part.parent / "." / part.name], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_by_command(model, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from toolkit.cli import app

    declaration = declare(tmp_path / "small.yaml", model)
    whole = tmp_path / "whole"
    cli = CliRunner()

    def call(*words):
        result = cli.invoke(app, [*map(str, words)])
        assert result.exit_code == 0, result.output
        return result.output

    call("run", declaration, "--out", whole, "--quiet")
    for i in (1, 2):
        call("run", declaration, "--out", tmp_path / "s", "--shard", f"{i}/2", "--quiet")
    parts = sorted((tmp_path / "s").iterdir())
    assert [part.name for part in parts] == ["shard-1-of-2", "shard-2-of-2"]
    assert "12 of 12 answered" in call("merge", *parts, "--out", tmp_path / "joined")
    assert_equal(toolkit.open_run(tmp_path / "joined"), toolkit.open_run(whole))
    assert "12 cells, 12 choices" in call("run", declaration, "--plan")
