"""`toolkit probe` and `toolkit compare`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import toolkit
from tests.experiments import wrong_servers
from toolkit.cli import app
from toolkit.completion.complete import LM
from toolkit.experiments import faults
from toolkit.server import Server


@pytest.fixture(scope="module")
def server(printable: LM) -> Iterator[Server]:
    with toolkit.serve(printable, api_keys=["k"]) as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key").write_text("k\n")
    return str(tmp_path / "key")


def test_probe_prints_the_checks(server: Server, key: str):
    done = CliRunner().invoke(app, ["probe", server.url, "--key-file", key])
    assert done.exit_code == 0, done.output
    assert "✓ seed" in done.output
    told = CliRunner().invoke(app, ["probe", server.url, "--key-file", key, "--json"])
    assert {c["check"] for c in json.loads(told.stdout)["checks"]} >= {"seed", "top_p"}


def test_probe_without_the_key_says_what_is_wrong(server: Server):
    done = CliRunner().invoke(app, ["probe", server.url])
    assert done.exit_code == 1
    assert "401" in str(done.exception)


def test_compare_ends_with_1_where_told_to_and_writes_a_page(
    server: Server, printable: LM, key: str, tmp_path: Path
):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cab on\n\ndeck, g\n")
    small = ["--samples", "2", "--max-tokens", "4", "--prompts", str(prompts)]
    page = tmp_path / "page.html"
    with wrong_servers.served(faults.byte_offsets(printable)) as wrong:
        asked = ["compare", server.url, wrong.url, "--key-file-a", key, "--out", str(page)]
        done = CliRunner().invoke(app, [*asked, *small, "--exit-code"])
        assert done.exit_code == 1, done.output
        assert CliRunner().invoke(app, [*asked, *small]).exit_code == 0
    assert "text_offset: bytes" in done.output
    assert "data:image/png;base64," in page.read_text()
