"""Schemathesis reads the document that the server hands out and tries to break the strict route."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import STRICT
from toolkit.server import Server

# The schema has no ranges, the contract does: what fits the schema may still be a client's mistake.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 429]
"""

# Asks for the model that is there, so that the rest of the request matters. The specification
# describes no streams.
HOOKS = """
import schemathesis

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body = {**body, "model": "toy"}
        if body.get("stream") is True:
            body["stream"] = False
    return body
"""


@pytest.mark.parametrize("hooks", ["", HOOKS], ids=["as it is", "model served"])
def test_strict_route_keeps_the_specification(server: Server, tmp_path: Path, hooks: str):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    (tmp_path / "hooks.py").write_text(hooks)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", server.url + "/openapi.json", "--include-path", STRICT, "--checks", "all"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "100"),
        *("--generation-deterministic", "--no-color"),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "✅  Coverage" in ran.stdout
    assert "✅  Fuzzing" in ran.stdout
