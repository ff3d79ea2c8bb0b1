"""Whatever a client sends, the answer is its own mistake in the route's shape, never a fault."""

from __future__ import annotations

import json
import threading
from typing import Any

import hypothesis
import jsonschema
from flask.testing import FlaskClient
from hypothesis import strategies as st

from tests.server.conftest import LEGACY, STRICT
from toolkit.completion.complete import LM
from toolkit.completion.request import Dialect, parameter_names

FIELDS = parameter_names(Dialect.LEGACY)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 20, 63, 64, 65, 256, 304, 2**31, 2**63, -(2**63), 10**400]),
    st.sampled_from([0.0, -0.0, 0.5, 2.0, 2.1, 1e-300, 1e308]),
    st.sampled_from(["", "A", "1", "\ud800", "\x00", "<|end|>", "\N{GRINNING FACE}", "A" * 100]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.one_of(st.sampled_from(FIELDS), st.text(max_size=8))
REQUESTS = st.dictionaries(NAMES, VALUES, max_size=4)
BASE = {"model": "toy", "prompt": "A", "max_tokens": 2}


@hypothesis.settings(max_examples=200, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(path=st.sampled_from([STRICT, LEGACY]), changes=REQUESTS, stream=st.booleans())
def test_any_fields_are_answered_or_refused(
    client: FlaskClient,
    toy: LM,
    specification: dict[str, Any],
    path: str,
    changes: Any,
    stream: bool,
):
    body = json.dumps({**BASE, "stream": stream, **changes}).encode()
    check(client.post(path, data=body), path, specification)
    rest(toy)


@hypothesis.settings(max_examples=150, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    path=st.sampled_from([STRICT, LEGACY, "/tokenize", "/detokenize"]),
    body=st.one_of(
        st.binary(max_size=40),
        VALUES.map(lambda value: json.dumps(value).encode()),
        st.integers(1, 100_000).map(lambda depth: b"[" * depth),
        st.integers(30, 40).map(lambda depth: b'{"prompt":' + b"[" * depth + b"]" * depth + b"}"),
        st.sampled_from([b'{"prompt": NaN}', b'{"prompt": 1e999}', b'{"prompt": ' + b"9" * 5000]),
    ),
)
def test_any_bytes_are_answered_or_refused(
    client: FlaskClient, toy: LM, specification: dict[str, Any], path: str, body: bytes
):
    check(client.post(path, data=body), path, specification)
    rest(toy)


def rest(lm: LM) -> None:
    """Wait until the engine's thread sleeps. Checked annotations draw from the module `random`,
    and Hypothesis takes offence when that changes while it draws too."""
    lm.engine.submit([])  # the thread starts with the first submission
    while not lm.engine._wake._waiters:
        threading.Event().wait(0.001)


def check(reply: Any, path: str, specification: dict[str, Any]) -> None:
    """An answer, or a client's error in the right shape. JSON throughout is strict."""
    assert reply.status_code in (200, 400, 404), reply.text
    if reply.mimetype == "text/event-stream":
        assert '"error"' not in reply.text
        return
    body = json.loads(reply.text, parse_constant=lambda name: 1 / 0)
    if reply.status_code == 200:
        return
    if path == STRICT:
        schema = specification["responses"]["400"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, schema)
        assert body["status"] == reply.status_code
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
