"""Sphinx: the pages of this folder, the notebooks as they were executed, and the API.

`make docs` builds them into `docs/_build` and fails on a warning. The notebooks lie outside of this
folder, where Sphinx does not read, so they are copied into it; the copies are not committed.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import toolkit  # noqa: E402

project = "completion-toolkit"
author = "The authors of completion-toolkit"
version = release = toolkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "spec"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nb_execution_mode = "off"
nb_execution_cache_path = str(HERE / "_build" / "cache")
myst_heading_anchors = 3
default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
suppress_warnings = ["ref.python"]  # the type `bytes` is also the name of a field of two classes
html_theme = "alabaster"
html_show_copyright = False
html_title = f"{project} {release}"
html_theme_options = {"description": "Text completion as an instrument", "page_width": "1080px"}


def copy_notebooks() -> None:
    """Put the notebooks where Sphinx reads them."""
    target = HERE / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        text = path.read_text("utf-8").replace("](../docs/", "](../")
        (target / path.name).write_text(text, "utf-8")


def mend_links(app: Any, name: str, source: list[str]) -> None:
    """Pages link to notebooks where readers of the repository find them; here these are the copies.
    What else lies outside of this folder is named instead of linked."""
    if "/" in name:  # a page of a folder here: what is one up from it is inside
        return
    text = source[0].replace("](../notebooks/", "](notebooks/")
    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\((?:\.\./)+([^)#\s]+)[^)]*\)", r"\1 (`\2`)", text)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    copy_notebooks()
    app.connect("source-read", mend_links)
