"""The benchmark suite's own arithmetic and papers; nothing is measured here."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarks import document, mixes
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.journal import Journal
from experiments.benchmarks.picture import Picture, draw
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result, body
from experiments.benchmarks.rounds import Spread, best, interleave, ratio, spread
from experiments.benchmarks.scenarios import GPU, SCENARIOS, runner
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.targets import Target

PLACE = {
    "processor": "A processor",
    "cores": 2,
    "memory_gib": 24,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "company": 0.0,
    "engines": {"toolkit": {"toolkit": "0.1.0"}},
}
ROUNDS = [
    {"1": {"toolkit, float32": {"speed": 30.0}, "peer, a": {"speed": 20.0}}},
    {"1": {"toolkit, float32": {"speed": 10.0}, "peer, a": {"speed": 5.0}}},
    {"1": {"toolkit, float32": {"speed": 36.0}, "peer, a": {"speed": 40.0}}},
]


def speed(turn: dict[str, Any]) -> float:
    return turn["speed"]


def never(name: str, error: Exception) -> bool:
    return False


def test_a_ratio_is_taken_within_rounds():
    # 1.5, 2.0, 0.9: the median is 1.5, while the medians of the speeds would give 30 / 20.
    assert ratio(ROUNDS, "1", "toolkit, float32", "peer, a", speed) == Spread(
        median=1.5, low=0.9, high=2.0
    )
    assert spread(ROUNDS, "1", "peer, a", speed) == Spread(median=20.0, low=5.0, high=40.0)


def test_the_best_way_of_an_engine_has_the_largest_median():
    turns = {"peer, a": {"speed": 1.0}, "peer, b": {"speed": 2.0}, "other": {"speed": 9.0}}
    assert best([{"1": turns}], "1", "peer", speed) == "peer, b"
    assert best([{"1": turns}], "1", "absent", speed) is None


def test_every_contestant_plays_in_each_round_and_another_one_begins():
    played: list[str] = []

    def play(name: str):
        return lambda: played.append(name) or {"speed": 1.0}

    made = interleave({"1": {name: play(name) for name in "abc"}}, 3, never)
    assert played == [*"abc", *"bca", *"cab"]
    assert [sorted(turns["1"]) for turns in made] == [["a", "b", "c"]] * 3


def test_a_contestant_that_fails_later_is_taken_out_of_all_rounds():
    turns = iter([{"speed": 1.0}])
    dropped: list[str] = []

    def failing() -> dict[str, Any]:
        try:
            return next(turns)
        except StopIteration:
            raise EngineFailed("it stopped") from None

    def drop(name: str, error: Exception) -> bool:
        dropped.append(f"{name}: {error}")
        return True

    made = interleave({"1": {"a": lambda: {"speed": 2.0}, "b": failing}}, 3, drop)
    assert made == [{"1": {"a": {"speed": 2.0}}}] * 3
    assert dropped == ["b: it stopped"]


def test_our_own_failure_ends_the_scenario():
    def failing() -> dict[str, Any]:
        raise EngineFailed("ours")

    with pytest.raises(EngineFailed, match="ours"):
        interleave({"1": {"toolkit": failing}}, 1, never)


@pytest.mark.parametrize(
    ("median", "smaller", "verdict"),
    [
        (2.0, False, "aim"),
        (1.5, False, "least"),
        (1.4, False, "missed"),
        (1.0, True, "aim"),
        (1.9, True, "least"),
        (2.1, True, "missed"),
    ],
)
def test_a_target_is_judged_by_the_median(median: float, smaller: bool, verdict: str):
    least, aim = (2.0, 1.0) if smaller else (1.5, 2.0)
    measured = Spread(median=median, low=0, high=9)
    target = Target(what="x", least=least, aim=aim, measured=measured, smaller=smaller)
    assert target.verdict == verdict


def result(**changes: Any) -> Result:
    """A result with everything in it."""
    table = tabulate(
        ROUNDS,
        [Figure(key="speed", heading="tokens/s", value=speed)],
        ours="toolkit, float32",
        case_heading="rows",
    )
    fields = {
        "scenario": "decode_batch1",
        "title": "One sequence",
        "settings": {"threads": 2},
        "left_out": {"peer, b": "it has no wheels"},
        "rounds": ROUNDS,
        "summary": table.summary,
        "columns": table.columns,
        "rows": table.rows,
        "notes": ["A note."],
        "targets": [
            Target(
                what="against the peer",
                least=1.6,
                aim=2.0,
                measured=ratio(ROUNDS, "1", "toolkit, float32", "peer, a", speed),
                limit="memory",
            )
        ],
        "picture": Picture(
            axis="tokens/s",
            bars={"1": {name: spread(ROUNDS, "1", name, speed) for name in ROUNDS[0]["1"]}},
            ours="toolkit",
        ),
    }
    return Result(**{**fields, **changes})


def test_a_page_says_what_was_measured_missed_and_left_out(tmp_path: Path):
    page = result().save(tmp_path, PLACE).read_text(encoding="utf-8")
    assert "A processor, cores used: 2, 24 GiB" in page
    assert "Median of 3 interleaved rounds" in page
    assert "| 1 | peer, a | 20.0 (5.0 to 40.0) | 1.50 (0.90 to 2.00) |" in page
    assert "| against the peer | 1.60x | 2.00x | 1.50x (0.90x to 2.00x) | **missed** |" in page
    assert "- against the peer: memory" in page
    assert "- Left out: peer, b: it has no wheels" in page
    assert "Other programs" not in page


def test_a_page_says_when_the_machine_was_busy():
    lines = body(result().facts({**PLACE, "company": 1.2}))
    assert any("Other programs kept 1.2 cores busy" in line for line in lines)


def test_the_document_is_written_from_the_files_alone(tmp_path: Path):
    result().save(tmp_path, PLACE)
    page = document.write(tmp_path, tmp_path / "performance.md")
    text = page.read_text(encoding="utf-8")
    assert "Measured on: A processor" in text
    assert "0 of 1 are reached" in text
    assert "![One sequence](performance/decode_batch1.svg)" in text
    assert "figures are still to be taken" in text
    picture = (tmp_path / "performance/decode_batch1.svg").read_bytes()
    other = {**PLACE, "processor": "Another", "vectors": "AMX"}
    result().save(tmp_path / "other", other)
    (tmp_path / "other/note.md").write_text("Taken elsewhere.\n", encoding="utf-8")
    document.write(tmp_path, page)
    first, _, second = page.read_text(encoding="utf-8").partition("## Targets on another machine")
    assert "Another" not in first and "elsewhere" not in first
    assert "Measured on: Another with AMX" in second and "Taken elsewhere." in second
    assert second.count("0 of 1 are reached") == 1
    assert (tmp_path / "performance/decode_batch1.svg").read_bytes() == picture
    assert b"peer, a" in picture


def test_a_document_without_results_says_so(tmp_path: Path):
    (tmp_path / "samples.json").write_text('{"rounds": []}', encoding="utf-8")  # an older suite's
    page = document.write(tmp_path, tmp_path / "performance.md")
    assert "No figures of this version were taken yet" in page.read_text(encoding="utf-8")


def test_pictures_with_several_cases_name_them(tmp_path: Path):
    one = Spread(median=1.0, low=0.5, high=2.0)
    facts = json.loads(
        json.dumps(
            {
                "axis": "x",
                "bars": {"4": {"a": vars(one)}, "16": {"a": vars(one)}},
                "ours": "a",
                "line": 1.0,
            }
        )
    )
    draw(facts, "Title", tmp_path / "two.svg")
    text = (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "4: a" in text and "16: a" in text


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path):
    first = Journal(tmp_path, {"threads": 2})
    first.note("samples")
    assert Journal(tmp_path, {"threads": 2}).done == ["samples"]
    assert Journal(tmp_path, {"threads": 1}).done == []
    assert Journal(tmp_path, {"threads": 2}, fresh=True).done == []
    (tmp_path / "unfinished.json").write_text("{", encoding="utf-8")
    assert Journal(tmp_path, {"threads": 2}).done == []
    first.close()
    assert not list(tmp_path.iterdir())


def test_sizes_and_rounds_of_a_run():
    usual = Settings(threads=2)
    check = Settings(threads=2, size="check")
    assert usual.pick(check=1, default=2, full=3) == 2
    assert (usual.turns(3), check.turns(3)) == (3, 1)
    assert Settings(threads=2, rounds=4, size="check").turns(3) == 4
    assert usual.publishable and not check.publishable
    assert not Settings(threads=2, rounds=1).publishable
    assert not Settings(threads=2, out=Path("elsewhere")).publishable


def test_every_scenario_has_a_function():
    for name in (*SCENARIOS, *GPU):
        assert callable(runner(name)), name


def test_random_requests_are_valid_and_differ():
    from toolkit.completion.request import Dialect, parse

    rng = random.Random(0)
    requests = [mixes.random_request(rng, 49_152) for _ in range(50)]
    for request in requests:
        parse(request, dialect=Dialect.PYTHON)
    assert len({request["seed"] for request in requests}) == 50


def test_mixes_are_valid_requests():
    from toolkit.completion.request import Dialect, parse

    for mix in mixes.MIXES.values():
        parse({"prompt": [1], **mix}, dialect=Dialect.PYTHON)
    assert len(mixes.BIAS) == 300
    assert set(mixes.NEUTRAL_TO) | set(mixes.NEUTRAL_TO.values()) <= set(mixes.MIXES)


def test_lengths_are_log_normal_around_the_middle():
    lengths = mixes.random_lengths(random.Random(1), 1001, prompt=48, new=24)
    prompts, answers = (sorted(column) for column in zip(*lengths, strict=True))
    # The median of 1001 draws is off by e^(0.7 * 1.25 / sqrt(1001)) - 1 = 3 % at one standard
    # deviation; four of them are 12 %: false alarms 6e-5.
    assert math.isclose(prompts[500], 48, rel_tol=0.12)
    assert math.isclose(answers[500], 24, rel_tol=0.12)
    assert min(answers) >= 4 and max(answers) <= 96
