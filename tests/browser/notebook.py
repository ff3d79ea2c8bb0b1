"""A notebook that is open in the browser, driven as its reader drives it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MINUTE = 60_000
"""Milliseconds, Playwright's unit."""
PATIENCE = 5 * MINUTE
"""That anything may take on a busy machine."""

READY = """() => {
  const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  const kernel = context?.session?.kernel;
  return Boolean(context?.isReady && kernel?.connectionStatus === 'connected'
                 && kernel.status === 'idle');
}"""
"""Cells that are run before do nothing, and nobody says so."""
READ = "() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()"
ENDED = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim());
  const failed = cells.some(cell => {
    const tags = cell.model.getMetadata('tags') || [];
    const outputs = cell.model.sharedModel.outputs;
    return !tags.includes('raises-exception') && outputs.some(o => o.output_type === 'error');
  });
  return failed || cells.every(cell => cell.model.executionCount !== null
                                       && cell.model.executionState !== 'running');
}"""
APPEND = """async source => {
  const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  await app.commands.execute('notebook:insert-cell-below');
  notebook.activeCell.model.sharedModel.setSource(source);
  window.cellEnded = app.commands.execute('notebook:run-cell');
  return notebook.activeCellIndex;
}"""

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def written(*sources: str) -> dict[str, Any]:
    """A notebook with these cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


class Notebook:
    """One page with one notebook and its kernel."""

    def __init__(self, page: Page):
        self.page = page

    def open(self, url: str) -> None:
        """Load the page and wait for the kernel."""
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(url)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Spinner", state="detached")
        self.page.wait_for_function(READY)

    def run_all(self) -> None:
        """Menu Run, "Run All Cells", and wait until each has run or one has failed."""
        # The menu acts on what has the focus.
        self.page.locator(".jp-NotebookPanel .jp-Notebook .jp-Cell").first.click()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(ENDED)

    def start(self, source: str) -> Locator:
        """Type a cell at the end and run it; returns the cell at once."""
        index = self.page.evaluate(APPEND, source)
        return self.page.locator(".jp-NotebookPanel .jp-Notebook .jp-Cell").nth(index)

    def ended(self) -> dict[str, Any]:
        """Wait for the cell that was started last and return it. An error in it fails the test."""
        assert self.page.evaluate("() => window.cellEnded"), self.outputs(-1)
        return self.cells[-1]

    def run(self, source: str) -> Locator:
        """Type a cell at the end, run it and wait for its end."""
        cell = self.start(source)
        self.ended()
        return cell

    def value(self, expression: str) -> Any:
        """A Python literal from the kernel."""
        self.start(expression)
        (output,) = self.ended()["outputs"]
        return ast.literal_eval(output["data"]["text/plain"])

    @property
    def cells(self) -> list[dict[str, Any]]:
        """All cells with their outputs, in nbformat."""
        return self.page.evaluate(READ)["cells"]

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Outputs of a cell."""
        return self.cells[index]["outputs"]

    def theme(self, name: str) -> None:
        """`Light` or `Dark`."""
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            f"JupyterLab {name}",
        )
        self.page.wait_for_selector(
            f'body[data-jp-theme-light="{"true" if name == "Light" else "false"}"]',
            state="attached",
        )
