"""What the other tests rest on: a request that would leave the machine is stopped and seen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Error

from tests.browser.conftest import AWAY, Traffic
from tests.browser.lab import Lab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("address", "away"),
    [
        ("http://127.0.0.1:8888/lab", False),
        ("ws://localhost:8888/api", False),
        ("data:text/plain,a", False),
        ("http://127.0.0.1.example.org/", True),
        ("https://example.org/127.0.0.1/", True),
    ],
)
def test_what_is_away(address: str, away: bool):
    assert bool(AWAY.match(address)) is away


def test_a_request_to_another_machine_is_stopped_and_seen(browser: Any, server: Lab):
    page = browser.new_page()
    traffic = Traffic(page)
    page.goto(f"{server.address}login")
    assert (traffic.away, traffic.failed) == ([], [])
    with pytest.raises(Error):
        page.evaluate("() => fetch('https://example.org/beacon')")
    assert traffic.away == ["https://example.org/beacon"]
    (failed,) = traffic.failed
    assert "ERR_INTERNET_DISCONNECTED" in failed
    page.close()
