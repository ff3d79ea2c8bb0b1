"""JupyterLab and Chromium, one of each for the session, and the proof that both stay at home."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import Lab, lab
from tests.browser.notebook import PATIENCE, Notebook

if importlib.util.find_spec("playwright") is None:  # `make test-browser` installs it
    collect_ignore_glob = ["test_*.py"]

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name but this machine's is resolved, so a request to another one fails and is seen.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
AWAY = re.compile(r"^(?!data:|blob:|about:|(?:http|ws)://(?:127\.0\.0\.1|localhost)[:/])")
"""An address that is not on this machine."""
SIZE = {"width": 1280, "height": 1000}


class Traffic:
    """Every request of a page, and those that failed."""

    def __init__(self, page: Any):
        self.asked: list[str] = []
        self.failed: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.on("requestfailed", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route(AWAY, lambda route: route.abort("internetdisconnected"))

    @property
    def away(self) -> list[str]:
        """Addresses that are not on this machine."""
        return [url for url in self.asked if AWAY.match(url)]

    def _note(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page that is left takes its questions along
            self.failed.append(f"{request.method} {request.url}: {request.failure}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab; the model is fetched before, since its kernels have no network."""
    assert folder.exists()
    with lab(tmp_path_factory.mktemp("lab")) as made:
        yield made
        assert made.left == ""


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """A page; when it closes, every request must have stayed on this machine, and come back."""
    context = browser.new_context(viewport=SIZE, device_scale_factor=1.5)
    made = context.new_page()
    traffic = Traffic(made)
    yield made
    context.close()
    assert len(traffic.asked) > 10, "the traffic was not seen"
    assert traffic.away == []
    assert traffic.failed == []
    assert traffic.errors == []


@pytest.fixture(scope="module")
def opened(server: Lab, page: Any) -> Callable[[str, Any], Notebook]:
    """Open a notebook, given its name and content."""

    def open_(name: str, content: Any) -> Notebook:
        (server.folder / name).write_text(json.dumps(content), encoding="utf-8")
        made = Notebook(page)
        made.open(server.url(name))
        return made

    return open_


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are put: TOOLKIT_PICTURES=docs/pictures renews those of the documents."""
    asked = os.environ.get("TOOLKIT_PICTURES")
    return Path(asked).resolve() if asked else tmp_path_factory.mktemp("pictures")
