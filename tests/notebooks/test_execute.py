"""The notebooks as they are committed, and what executes them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
assert SPEC is not None and SPEC.loader is not None
execute = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(execute)


def code(source: str, *outputs: Any, **fields: Any) -> Any:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), **fields)


def stream(text: str, name: str = "stdout") -> Any:
    return nbformat.v4.new_output("stream", text=text, name=name)


def book(*cells: Any) -> Any:
    return nbformat.v4.new_notebook(cells=list(cells))


# --- what is committed ----------------------------------------------------------------------------


def test_notebooks_are_numbered_from_one():
    assert len(NOTEBOOKS) >= 4
    for number, path in enumerate(NOTEBOOKS, start=1):
        assert re.fullmatch(rf"{number:02}_[a-z]+_[a-z]+", path.stem), path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_executed_clean_and_in_order(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert path.read_bytes() == execute.written(notebook)
    assert list(execute.faults(notebook)) == []
    assert notebook.metadata == {
        "kernelspec": execute.KERNEL,
        "language_info": {"name": "python"},
    }
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) // 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_says_what_it_is_for_and_takes_parameters(path: Path):
    first, imports, parameters, *rest = nbformat.read(path, as_version=4).cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert all(f"**{word}:**" in first.source for word in ("What", "Time", "Needs"))
    assert "import toolkit as tk" in imports.source
    assert parameters.metadata.tags == ["parameters"]
    sources = [cell.source for cell in rest if cell.cell_type == "code"]
    assert not [
        line
        for line in "\n".join(sources).splitlines()
        if line.lstrip()[:1] in "%!"
        if line.strip()
    ]
    assert not any(re.search(r"^\s*(?:def|class) ", source, re.M) for source in sources)


def test_links_between_notebooks_and_documents_resolve():
    for path in NOTEBOOKS:
        for link in re.findall(r"\]\(([^)#\s\\]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (path.parent / link).exists(), (path.name, link)


# --- what executes them ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (code("", stream("careful", name="stderr")), "wrote to stderr: careful"),
        (code("", stream("in /home/ada/toolkit/a.py")), "shows a path: /home/ada"),
        (code("", stream("C:\\Users\\ada")), "shows a path: C:"),
        (
            code("", nbformat.v4.new_output("error", ename="E", evalue="no", traceback=[])),
            "has an error: E: no",
        ),
        (code("x" * 300_000), "bytes are more than"),
        (code("f()", metadata={"tags": ["raises-exception"]}), "was to raise and did not"),
    ],
)
def test_a_fault_is_found(cell: Any, words: str):
    (fault,) = execute.faults(book(cell))
    assert words in fault


def test_an_error_that_is_wanted_is_none():
    error = nbformat.v4.new_output("error", ename="E", evalue="no", traceback=[])
    cell = code("f()", error, metadata={"tags": ["raises-exception"]})
    assert list(execute.faults(book(cell))) == []


def test_addresses_and_relative_paths_are_no_absolute_paths():
    cell = code(
        "", stream("http://127.0.0.1:80/tmp/x https://a.b/home/c runs/tmp/x 3/usr/4 </tmp/>")
    )
    assert list(execute.faults(book(cell))) == []


def test_a_cell_that_differs_in_speeds_ids_and_last_digits_only_keeps_its_outputs():
    old = book(
        code("a", stream("-0.2580817 · 31 tokens/s · cmpl-1f"), id="one"),
        code("b", stream("8 tokens"), id="two"),
    )
    new = book(
        code("a", stream("-0.2580832 · 4,031.5 tokens/s · cmpl-2e"), id="one"),
        code("b", stream("9 tokens"), id="two"),
    )
    assert execute.keep_unchanged(new, old) == [1]
    assert new.cells[0].outputs == old.cells[0].outputs
    assert new.cells[1].outputs[0].text == "9 tokens"


def test_what_is_kept_of_the_metadata():
    cell = code("", metadata={"tags": ["parameters"], "execution": {"iopub.status.busy": "now"}})
    view = nbformat.v4.new_output(
        "display_data", data={execute.WIDGET: {"model_id": "f00"}, "text/html": "<b>1</b>"}
    )
    cell.outputs = [view]
    notebook = book(cell)
    notebook.metadata["widgets"] = {"state": {}}
    execute.tidy(notebook)
    assert notebook.cells[0].metadata == {"tags": ["parameters"]}
    assert notebook.cells[0].outputs[0].data == {"text/html": "<b>1</b>"}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(b"old")
    execute.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_notebook_that_fails_stays_as_it_was(tmp_path: Path):
    path = tmp_path / "01_fail_soon.ipynb"
    before = execute.written(book(code("1 / 0")))
    path.write_bytes(before)
    with pytest.raises(execute.Failed, match="ZeroDivisionError"):
        execute.run(path, write=True)
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_executes_afresh(path: Path):
    command = [sys.executable, str(FOLDER / "execute.py"), "--check", path.stem]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
