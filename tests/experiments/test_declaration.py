"""Declarations: what they may hold, and how they name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.errors import RunError
from toolkit.experiments.conduct import resolve
from toolkit.experiments.declaration import (
    ModelPart,
    PromptFile,
    ServerPart,
    check_declaration,
    read_declaration,
)
from toolkit.experiments.prompts import read_prompts
from toolkit.experiments.yamlfile import read_yaml, to_yaml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "temperature sweep.yaml"


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(RunError) as caught:
        read_declaration(file)
    return caught.value.message


def test_defaults(file):
    file.write_text("prompts: Once upon a time\n")
    declared = read_declaration(file)
    assert declared.name == "temperature-sweep"
    assert declared.prompts == ["Once upon a time"]
    assert declared.seeds == [0]
    assert declared.asked == (ModelPart(),)


def test_targets_are_words_addresses_and_objects():
    declared = check_declaration(
        {
            "name": "x",
            "prompts": ["a"],
            "models": ["toy", {"model": "toy", "name": "half", "dtype": "bfloat16"}],
            "targets": ["http://localhost:1/v1", {"base_url": "http://h", "concurrency": 2}],
        },
        "here",
    )
    assert [type(part) for part in declared.asked] == [ModelPart] * 2 + [ServerPart] * 2
    assert declared.asked[3].concurrency == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompts: [a, yes]", "yaml:1: `prompts[1]` is a boolean"),
        ("prompts: [a]\nparameters:\n  guided_choice: [yes, no]", "yaml:3: `parameters.guided"),
        ("prompts: [a]\ngrid:\n  stop:\n    - [no]", "yaml:4: `grid.stop[0][0]` is a boolean"),
        ("prompts: [12]", "is 12, a int, and must be text. Quote it."),
        ("prompts: [2026-11-22]", "a date, and must be text"),
        ("prompts: [a]\nparamters: {}", "`paramters` is not a key of a declaration. Did you mean"),
        ("prompts: [a]\ngrid: {topp: [1]}", "`topp` is not a parameter. Did you mean `top_p`?"),
        ("prompts: [a]\ngrid:\n  temperature:\n  - 0\n  - 3", "yaml:5: `grid.temperature[1]`"),
        ("prompts: [a]\ngrid: {temperature: [0, 0]}", "holds 0 twice"),
        ("prompts: [a]\ngrid: {temperature: 0}", "must be a valid list"),
        ("prompts: [a]\nparameters: {seed: 3}", "Use the key `seeds`"),
        ("prompts: [a]\nparameters: {stream: true}", "not for experiments"),
        ("prompts: [a]\nseeds: 0", "`seeds` is 0"),
        ("prompts: [a]\nseeds: [1, 1]", "holds 1 twice"),
        ("prompts: [a]\nseeds: [9223372036854775808]", "not a signed 64-bit integer"),
        ("prompts: [a]\nn: 0", "`n` must be greater than or equal to 1, got 0"),
        ("prompts: [a]\nzip: {top_p: [1, 0.5], min_p: [0]}", "needs lists of one length"),
        ("prompts: [a]\ngrid: {n: [1]}", "Use the key `n`"),
        ("prompts: [a]\ngrid: {top_p: [1]}\nparameters: {top_p: 1}", "in `grid` and in `param"),
        ("prompts: [a]\nmodels: [x, x]", "two targets are called 'x'"),
        ("prompts: [a]\nextra: {cache_prompt: true}", "`extra` is for servers"),
        ("prompts: [a]\nmetrics: [diversty]", "`diversty` is not a metric. Did you mean"),
        ("prompts: [a]\nplots: [{y: metric.words}]", "Add it to `metrics`"),
        ("prompts: [a]\nname: a/b", "names a folder"),
        ("prompts: []", "`prompts`"),
        ("grid: {}", "`prompts` is required"),
        ("prompts: [[]]", "holds no token ids"),
        ("prompts: [[1, x]]", "list of token ids"),
        ("prompts: {file: x.csv, colunm: q}", "Did you mean `column`?"),
        ("targets: [{base_url: http://x, modle: m}]\nprompts: a", "yaml:1: `targets[0].modle`"),
        ("prompts: [a]\nname: x\nprompts: [b]", "yaml:3: `prompts` stands twice, first in line 1"),
        ("- a", "holds no declaration"),
        ("prompts: [a", "is not valid YAML"),
        ("prompts: &a [*a]", "alias of itself"),
        (
            "prompts: [12:30:00]",
            "`prompts[0]` 12:30:00 is a number in base 60",
        ),
        ("prompts: [a]\nname: 1:2", "number in base 60 to YAML 1.1. Quote it"),
        ("prompts: [a]\nparameters: {stop: 12:30}", "yaml:2: `parameters.stop`: 12:30 is a number"),
        ('prompts: ["\\ud800"]', "`prompts[0]` '\\ud800' holds half of a character"),
        (
            'prompts: [a]\nparameters: {stop: ["\\udc00"]}',
            "yaml:2: `parameters.stop`: `stop` (position 0)",
        ),
        ("prompts: [[3, -1]]", "`prompts[0]` holds -1, and token ids count from 0"),
        ("prompts: [a]\ngrid: {temperature: [.nan, .nan]}", "must be a finite number, got nan"),
        ("prompts: [a]\ngrid: {temperature: 0}", "got 0. Write a list, as in"),
        ("prompts: [a]\ngrid: {stop: abc}", "`grid.stop` must be a valid list, got 'abc'"),
        ("prompts: [a]\nmodels: [{model: x, context: -1}]", "`models[0].context` must be greater"),
        ("prompts: [a]\nmodels: [{model: x, max_batch: 0}]", "`models[0].max_batch` must be"),
        ("prompts: [a]\ntargets: ['http://']", "yaml:2: `targets[0]`: 'http://' is no address"),
        (
            "prompts: [a]\ntargets:\n- {base_url: 'localhost:8000'}",
            "yaml:3: `targets[0].base_url`: 'localhost:8000' is no address. Write it like",
        ),
        ("prompts: [a]\ntargets: [{base_url: 'http://h:x'}]", "is no address"),
        (
            "prompts: [a]\ntargets: ['http://x']\nextra:\n  a: {b: [.nan]}",
            "yaml:4: `extra.a.b[0]`: nan is not finite",
        ),
        (
            "prompts: [a]\ntargets: ['http://x']\nextra:\n  since: 2020-01-01",
            "yaml:4: `extra.since`: datetime.date(2020, 1, 1) is a date, which JSON does not have",
        ),
        (
            "prompts: [a]\nplots: [{x: param.temprature}]",
            "`plots[0].x`: `param.temprature` is no column of `requests`. Did you mean `param.temp",
        ),
        ("prompts: [a]\nplots: [{y: nope}]", "`plots[0].y`: `nope` is no column"),
        ("prompts: {file: x.csv, template: '{'}", "`prompts.template` is no template"),
        ("prompts: {file: x.csv, template: '{a.b}'}", "field 'a.b' that is no plain name"),
        ("prompts: {file: x.csv, template: '{a[0]}'}", "field 'a[0]' that is no plain name"),
        ("prompts: {file: x.csv, template: '{}'}", "field '' that is no plain name"),
        ("prompts: {file: x.csv, template: '{a:>9d}'}", "field 'a' that is no plain name"),
        ("prompts: {file: x.csv, template: '{a!r}'}", "field 'a' that is no plain name"),
    ],
)
def test_mistakes_are_named_with_their_place_and_the_way_out(file, text, said):
    assert said in refused(file, text)


def test_all_mistakes_are_told_at_once(file):
    told = refused(file, "prompts: [a]\nn: 0\nmetrics: [x]\nseeds: 0")
    assert told.count("\n") == 2


def test_numbers_are_read_as_people_write_them(file):
    file.write_text("a: [1e-3, 010, 1_000, -.5, +2]\nb: [12:30, 1.2.3, v1, 1e]\n")
    value, lines = read_yaml(file)
    assert value == {"a": [0.001, 10, 1000, -0.5, 2], "b": ["12:30", "1.2.3", "v1", "1e"]}
    assert lines["b", 3] == 2


def test_written_yaml_reads_back(file):
    value = {"prompts": ["yes", "1e3", "12:30", "0x1F", "~", "", "é\n ", "2026-11-22", "010"]}
    file.write_text(to_yaml(value))
    assert read_yaml(file)[0] == value


def test_prompts_from_files(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"q": "a", "answer": 1}\n\n"b"\n')
    (tmp_path / "p.csv").write_text('prompt,answer\n"a\nb",x\nc,y\n')
    pq.write_table(pa.table({"prompt": [[1, 2], [3]], "level": [1, 2]}), tmp_path / "p.parquet")

    def rows(**fields):
        return read_prompts(PromptFile(**fields), tmp_path)

    (row,) = rows(file="p.jsonl", column="q", limit=1)
    assert (row.prompt, row.columns) == ("a", {"answer": 1})
    assert [r.prompt for r in rows(file="p.csv")] == ["a\nb", "c"]
    assert rows(file="p.csv")[1].columns == {"answer": "y"}
    assert rows(file="p.csv", template="{prompt}={answer}")[1].prompt == "c=y"
    assert [r.prompt for r in rows(file="p.parquet")] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("name", "text", "fields", "said"),
    [
        ("p.jsonl", '{"prompt": 3}', {}, "row 1: `prompt` must be text or token ids, got 3"),
        ("p.jsonl", "{", {}, "p.jsonl:1 is not JSON"),
        ("p.jsonl", "", {}, "holds no prompt"),
        ("p.csv", "a,b\n1,2\n", {}, "The row has a, b"),
        ("p.csv", "a,b\n1,2\n", {"template": "{c}"}, "`template` cannot be filled"),
        ("p.txt", "a", {}, "none of .jsonl"),
        ("p.csv", "prompt,prompt\na,b\n", {}, "p.csv has two columns 'prompt'. Rename one"),
        ("p.csv", "prompt,x\na,1\nb\n", {}, "p.csv:3: the row has 1 fields, and the header 2"),
        ("p.csv", "prompt,x\na,1,2\n", {}, "p.csv:2: the row has 3 fields, and the header 2"),
        ("p.jsonl", '{"prompt": "\\ud800"}', {}, "row 1: `prompt` '\\ud800' holds half of a char"),
        ("p.jsonl", '{"prompt": "a", "x": "\\udc00"}', {}, "row 1: `x` '\\udc00' holds half"),
        ("p.jsonl", '{"prompt": [1, -2]}', {}, "row 1: `prompt` holds -2: ids count from 0"),
        ("p.parquet", "a", {}, "is no parquet file"),
    ],
)
def test_mistakes_in_prompt_files_are_named(tmp_path, name, text, fields, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=r"`prompts\.file`|is not JSON") as caught:
        read_prompts(PromptFile(file=name, **fields), tmp_path)
    assert said in caught.value.message


def test_long_fields_and_empty_lines_of_csv(tmp_path):
    (tmp_path / "p.csv").write_text("\ufeffprompt,x\n\n" + "a" * 200_000 + ",1\n\n")
    (row,) = read_prompts(PromptFile(file="p.csv"), tmp_path)
    assert (len(row.prompt), row.columns) == (200_000, {"x": "1"})


def test_templates_fill_braces_and_any_value(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"a b": {"x": 1}, "n": null, "0": "z"}\n')
    declared = PromptFile(file="p.jsonl", template="{{{a b}}} {n} {0}")
    assert read_prompts(declared, tmp_path)[0].prompt == "{{'x': 1}} None z"


def test_quoted_times_are_text(file):
    file.write_text("prompts: ['12:30:00', \"1:2\"]\n")
    assert read_declaration(file).prompts == ["12:30:00", "1:2"]


def test_plots_may_name_columns_of_the_prompt_file(tmp_path, file):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "level": 1}\n')
    file.write_text("prompts: {file: p.jsonl}\nplots: [{x: prompt.level, by: target}]\n")
    assert resolve(read_declaration(file), tmp_path).declared.plots[0].x == "prompt.level"
    file.write_text("prompts: {file: p.jsonl}\nplots: [{x: prompt.lvl}]\n")
    with pytest.raises(RunError, match=r"`plots\[0\].x`: no prompt has a column 'lvl'.*level"):
        resolve(read_declaration(file), tmp_path, file)


def test_recorded_runs_need_no_address(file):
    text = "prompts: [a]\ntargets: [{base_url: toy}]\n"
    assert "is no address" in refused(file, text)
    assert read_declaration(file, recorded=True).asked[0] == ServerPart(base_url="toy")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nothing\.csv cannot be read"):
        read_prompts(PromptFile(file="nothing.csv"), tmp_path)


def test_resolved_declarations_need_no_other_file(tmp_path, file):
    (tmp_path / "p.jsonl").write_text('{"q": "yes", "answer": 1}\n')
    (tmp_path / "model").mkdir()
    file.write_text("prompts: {file: p.jsonl, column: q}\nmodels: [model]\nseeds: ~\n")
    resolved = resolve(read_declaration(file), tmp_path)
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    (elsewhere / "config.yaml").write_text(resolved.config)
    assert resolved.prompts is not None
    (elsewhere / "prompts.jsonl").write_bytes(resolved.prompts)
    again = resolve(read_declaration(elsewhere / "config.yaml"), elsewhere)
    assert (again.config, again.prompts, again.sum) == (
        resolved.config,
        resolved.prompts,
        resolved.sum,
    )
    assert again.declared.seeds is None
    assert json.loads(resolved.prompts) == {"prompt": "yes", "answer": 1}
    assert again.declared.models[0].model == str(tmp_path / "model")
