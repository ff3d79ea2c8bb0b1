"""Execute the notebooks afresh, headless, and write them back with their outputs.

    python notebooks/execute.py                    # all of them; `make notebooks`
    python notebooks/execute.py 02_explore         # those whose names begin so
    python notebooks/execute.py --check            # execute, write nothing

A notebook fails on an error, on anything written to stderr, on an absolute path in an output, and
when it is larger than `LARGEST`. What is written is small in a diff: no times of execution, no
state of widgets, no version of the interpreter; a cell whose outputs differ from the old ones in
speeds, ids and last digits only keeps the old ones. A file is replaced whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
LARGEST = 300_000
"""Bytes of a notebook."""
PATIENCE = 600
"""Seconds that a cell may take on a busy machine. On a quiet one a notebook takes under 60 s."""

ABSOLUTE = re.compile(
    r"(?<![\w.:/<-])/(?:home|root|tmp|usr|var|opt|mnt|srv|private|Users|Volumes|workspace)/"
    r"|\b[A-Z]:\\\\?(?:Users|Windows|Program)|\bfile://"
)
"""A path that means something on one machine only."""
CHANGING = re.compile(
    r"\b\d[\d.,]* tokens/s|cmpl-\w+|'created': \d+|127\.0\.0\.1:\d+|0x[0-9a-f]{6,}"
    r"|\(?\b\d[\d.,]* (?:ms|s|seconds)\b\)?"
)
"""What differs between two runs of the same cell."""
DIGITS = re.compile(r"\b\d+\.\d{5,}(?:e[+-]?\d+)?")
"""Numbers with so many digits that the last ones depend on the processor."""
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"


class Failed(Exception):
    """A notebook did not run clean; the message says which cell and why."""


def execute(notebook: Any, folder: Path = HERE) -> Any:
    """Run all cells in a fresh kernel and return the notebook, cleaned. Raises Failed."""
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    try:
        client.execute(env=env)
    except CellExecutionError as error:
        raise Failed(f"a cell raised {error.ename}: {error.evalue}\n{error.traceback}") from None
    except CellTimeoutError:
        raise Failed(f"a cell took more than {PATIENCE} s") from None
    except (DeadKernelError, AssertionError) as error:  # nbclient asserts while it cleans up
        raise Failed(f"the kernel died: {error}") from None
    tidy(notebook)
    return notebook


def tidy(notebook: Any) -> None:
    """Keep of the metadata what a reader needs, and drop views of widgets that are gone."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        )
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET, None)


def faults(notebook: Any) -> Iterator[str]:
    """What keeps an executed notebook from being published, one line each."""
    for number, cell in enumerate(notebook.cells):
        kinds = [output.output_type for output in cell.get("outputs", ())]
        if "raises-exception" in tags(cell) and "error" not in kinds:
            yield f"cell {number} was to raise and did not"
        for output in cell.get("outputs", ()):
            if output.output_type == "error" and "raises-exception" not in tags(cell):
                yield f"cell {number} has an error: {output.ename}: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"cell {number} wrote to stderr: {output.text.strip()[:500]}"
            for text in texts(output):
                if found := ABSOLUTE.search(text):
                    yield f"cell {number} shows a path: {text[found.start() :][:80]}"
    if (size := len(written(notebook))) > LARGEST:
        yield f"{size:,} bytes are more than {LARGEST:,}"


def tags(cell: Any) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def texts(output: Any) -> Iterator[str]:
    """Every text of an output that is no image."""
    yield output.get("text", "")
    yield from output.get("traceback", ())
    for kind, data in output.get("data", {}).items():
        if not kind.startswith("image/") or kind.endswith("svg+xml"):
            yield data if isinstance(data, str) else json.dumps(data)


def keep_unchanged(new: Any, old: Any) -> list[int]:
    """Give cells that say the same as before their old outputs; returns the numbers of the others.

    Images count as text does: an equal figure is an equal PNG under equal versions.
    """
    before = {cell.get("id"): cell for cell in old.cells}
    changed = []
    for number, cell in enumerate(new.cells):
        if cell.cell_type != "code":
            continue
        twin = before.get(cell.id)
        if twin is not None and _said(twin) == _said(cell):
            cell.outputs = twin.outputs
        else:
            changed.append(number)
    return changed


def _said(cell: Any) -> str:
    """A cell without what differs between runs and machines, the last digits of numbers too."""
    text = CHANGING.sub("~", json.dumps([cell.source, cell.get("outputs")], sort_keys=True))
    return DIGITS.sub(lambda match: f"{float(match[0]):.3g}", text)


def written(notebook: Any) -> bytes:
    """The bytes of a notebook's file."""
    return (nbformat.writes(notebook, indent=1) + "\n").encode()


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as f:
        f.write(data)
    os.chmod(f.name, path.stat().st_mode)
    os.replace(f.name, path)


def run(path: Path, *, write: bool) -> str:
    """Execute one notebook and write it back; returns a line for the reader. Raises Failed."""
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    old = nbformat.read(path, as_version=4)
    execute(notebook, path.parent)
    if found := list(faults(notebook)):
        raise Failed("\n  ".join(found))
    changed = keep_unchanged(notebook, old)
    if write:
        replace(path, written(notebook))
    seconds, size = time.monotonic() - began, len(written(notebook)) / 1000
    return f"{path.name}: {seconds:.0f} s, {size:.0f} kB, {len(changed)} cells with other outputs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if a notebook failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names; default all")
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args(arguments)
    paths = [
        path
        for path in sorted(HERE.glob("[0-9]*.ipynb"))
        if not asked.names or path.name.startswith(tuple(asked.names))
    ]
    if not paths:
        parser.error(f"no notebook is called {' or '.join(asked.names) or 'anything'}")
    sys.path.insert(0, str(HERE.parent))
    from toolkit.models import catalog

    catalog.resolve()  # here, where its progress may be seen, and not on the stderr of a cell
    failed = 0
    for path in (bar := tqdm(paths, unit="notebook")):
        bar.set_description(path.stem)
        try:
            bar.write(run(path, write=not asked.check))
        except Failed as error:
            failed += 1
            bar.write(f"{path.name} FAILED: {error}")
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
