"""Run folders that somebody damaged: nothing stays hidden, and what can be mended is."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.experiments.fakes import Fake
from tests.experiments.runs import assert_equal
from toolkit.errors import RunError
from toolkit.experiments import command, store, tables
from toolkit.experiments.run import open_run
from toolkit.experiments.sweep import sweep


def run(target, out, **fields):
    fields = {"prompts": ["a", "b"], "grid": {"temperature": [0, 1]}, "seeds": 2} | fields
    return sweep(target, out=out, progress=False, **fields)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(Fake(), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole.path, tmp_path / "run")


def change(path, number, line):
    """Replace a line; None takes it out."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number : number + 1] = [] if line is None else [line(lines[number])]
    path.write_bytes(b"".join(lines))


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


DAMAGE = {
    "cut": lambda f: cut(f / store.RESPONSES, 0.5),
    "gone": lambda f: (f / store.RESPONSES).unlink(),
    "a line gone": lambda f: change(f / store.RESPONSES, 2, None),
    "a line garbled": lambda f: change(f / store.RESPONSES, 2, lambda line: b"garbage\n"),
    "a line cut": lambda f: change(f / store.RESPONSES, 2, lambda line: line[:60] + b"\n"),
    "two lines in one": lambda f: change(f / store.RESPONSES, 2, lambda line: line[:-9]),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_lost_answers_are_told_and_asked_again(whole, folder, how):
    DAMAGE[how](folder)
    seen = open_run(folder)
    lost = 8 - seen.answered
    assert lost > 0 and not seen.done and len(seen.missing) == lost
    assert f"{8 - lost} of 8 answered" in repr(seen) and f"missing: {lost} cells" in repr(seen)
    assert "Run sweep, damaged" in repr(seen)
    assert len(seen.requests) == 8  # the frames are whole yet
    target = Fake()
    assert_equal(run(target, folder), whole)
    assert len(target.asked) == lost


@pytest.mark.parametrize("how", ["cut", "gone", "a line garbled"])
def test_lost_requests_are_told_and_written_again(whole, folder, how):
    path = folder / store.REQUESTS
    {"cut": lambda: cut(path, 0.5), "gone": path.unlink}.get(
        how, lambda: change(path, 1, lambda line: b"\0\0\n")
    )()
    seen = open_run(folder)
    assert not seen.done and seen.planned == 8 > seen.answered
    assert set(whole.requests["cell_id"]) >= set(seen.missing)
    assert len(seen.missing) == 8 - seen.answered
    target = Fake()
    assert_equal(run(target, folder), whole)
    assert target.asked == [] and open_run(folder).missing == []


def test_a_lost_line_of_a_prompt_that_stands_twice_is_noticed(tmp_path):
    whole = run(Fake(), tmp_path / "whole", prompts=["a", "b", "a"])
    change(tmp_path / "whole" / store.REQUESTS, 9, None)
    assert not open_run(whole.path).done
    assert len(run(Fake(), whole.path, prompts=["a", "b", "a"]).requests) == 12


def test_marks_of_before_are_believed(folder):
    (folder / store.DONE).write_text("")
    target = Fake()
    assert open_run(folder).done and run(target, folder).done
    assert target.asked == []
    cut(folder / store.RESPONSES, 0.5)
    assert not open_run(folder).done


@pytest.mark.parametrize("name", tables.NAMES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_damaged_frames_are_made_again(whole, folder, name, share):
    cut(folder / f"{name}.parquet", share)
    assert_equal(open_run(folder), whole)
    assert tables.readable(folder)
    cut(folder / f"{name}.parquet", share)
    target = Fake()
    assert run(target, folder).done and tables.readable(folder)
    assert target.asked == []


def test_frames_are_not_made_of_half_the_answers(folder):
    cut(folder / store.RESPONSES, 0.5)
    cut(folder / "requests.parquet", 0.5)
    before = (folder / "tokens.parquet").read_bytes()
    seen = open_run(folder)
    assert len(seen.requests) == seen.answered < 8
    assert (folder / "tokens.parquet").read_bytes() == before


def test_other_spacing_is_read(whole, folder):
    for name in (store.REQUESTS, store.RESPONSES):
        path = folder / name
        values = [json.loads(line) for line in path.read_bytes().splitlines()]
        values = [dict(sorted(value.items(), reverse=True)) for value in values]
        path.write_text("".join(json.dumps(value) + "\r\n" for value in values), newline="")
    for path in (folder / store.DONE, *folder.glob("*.parquet")):
        path.unlink()
    target = Fake()
    assert_equal(run(target, folder), whole)
    assert target.asked == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 1}', "`targets` is missing"),
        ("[]", "holds no object"),
        ('{"format": 1, "targets": {}, "distinct": {}, "sessions": 3}', "`sessions` is missing"),
        ("{", "is damaged"),
    ],
)
def test_a_damaged_manifest_is_named_with_the_way_out(whole, folder, text, said):
    path = folder / store.MANIFEST
    path.write_text(text)
    for attempt in (lambda: open_run(folder), lambda: run(Fake(), folder)):
        with pytest.raises(RunError, match=rf"manifest.json is damaged.*--out {folder}") as caught:
            attempt()
        assert said in caught.value.message
    path.unlink()
    target = Fake()
    assert_equal(run(target, folder), whole)
    assert target.asked == []


@pytest.mark.parametrize("name", ["config.yaml", "requests.jsonl", "notes.txt", "DONE"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=rf"not empty and no run folder: it has {name}"):
        run(Fake(), tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_hidden_files_make_no_folder_somebody_elses(tmp_path):
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / ".lock").write_text("")
    assert run(Fake(), tmp_path).done


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    for out in (path, path / "below"):
        with pytest.raises(RunError, match=rf"`out` {out}: a file is in its place"):
            run(Fake(), out)
    with pytest.raises(RunError, match="is no run folder: it is a file"):
        open_run(path)
    assert path.read_text() == "mine"


def test_going_on_with_a_folder_of_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        command.started(tmp_path)
