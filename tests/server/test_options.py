"""Options that make no sense are refused by name, value and rule."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.completion.complete import LM
from toolkit.server import create_app

TOO_LOW = [
    ("request_timeout", 0),
    ("request_timeout", -1.5),
    ("request_timeout", float("nan")),
    ("request_timeout", "5"),
    ("max_requests", 0),
    ("max_requests", True),
    ("max_body", 0),
    ("max_body", -5),
    ("rate_limit", "0/minute"),
    ("rate_limit", "60/minute;100/hour"),
    ("rate_limit", "1.5/minute"),
    ("rate_limit", ""),
    ("rate_limit", 60),
]


@pytest.mark.parametrize(("name", "value"), TOO_LOW)
def test_option_without_sense_is_refused(toy: LM, name: str, value: Any):
    with pytest.raises(ValueError, match=f"^`{name}` must be ") as caught:
        create_app(toy, **{name: value})
    assert f"got {value!r}. " in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ([""], "empty key"),
        ("", "empty key"),
        ([" \t"], "empty key"),
        (b"secret", "must be strings, got bytes"),
        ([b"secret"], "must be strings, got bytes"),
        (["sec\nret"], "control character"),
        (["sec\0ret"], "control character"),
        (["sec\x7fret"], "control character"),
        (["sec\udc80ret"], "not Unicode text"),
    ],
)
def test_key_that_nobody_could_send_is_refused_without_quoting_it(toy: LM, keys: Any, rule: str):
    with pytest.raises(ValueError, match=f"^`api_keys` .*{rule}") as caught:
        create_app(toy, api_keys=keys)
    assert "ret" not in str(caught.value).replace("secret", "")
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "good", "bad"),
    [
        ("secret", "secret", "s"),  # one string is one key
        (" secret\t", "secret", "secre"),
        (["voil\u00e0", "b"], "voil\u00e0", "voil\u00c3"),
        (["clef \u0445"], "clef \u0445", "clef \u0441"),  # \xd1\x85 in UTF-8
        (iter(["a", "b"]), "b", "c"),
    ],
)
def test_key_is_compared_as_it_is_sent(toy: LM, keys: Any, good: str, bad: str):
    client = create_app(toy, api_keys=keys).test_client()
    for key, status in [(good, 200), (bad, 401)]:
        header = f"Bearer {key}".encode().decode("latin-1")
        reply = client.get("/v1/models", headers={"Authorization": header})
        assert reply.status_code == status, key
