"""`parse_json`: bodies that Python's reader would take, or would crash on, are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.completion.json import parse_json
from toolkit.errors import InvalidRequest


def refused(body: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_json(body)
    assert caught.value.message.encode()
    assert len(caught.value.message) < 300
    return caught.value.message


def test_valid_bodies():
    assert parse_json(b'{"a": [1, 2.5, true, null, "x"]}') == {"a": [1, 2.5, True, None, "x"]}
    assert parse_json(b"\xef\xbb\xbf{}") == {}
    assert parse_json(rb'{"a": "\ud83d\ude00", "b": "\\ud800"}') == {"a": "😀", "b": r"\ud800"}


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
def test_case_14_no_literals_beyond_json(literal: bytes):
    assert "not a JSON number" in refused(b'{"temperature": %s}' % literal)


@pytest.mark.parametrize(
    "body", [rb'{"prompt": "\ud800"}', rb'{"stop": ["a", "\udfff\ud800"]}', rb'{"\uD9ab": 1}']
)
def test_case_14_lone_surrogates(body: bytes):
    assert "surrogate" in refused(body)


@pytest.mark.parametrize("body", [b"", b"  \n", b"{", b'{"a": 1,}', b"{'a': 1}", b"{} x", b"x"])
def test_case_15_broken_json(body: bytes):
    assert "body" in refused(body)


def test_where_it_breaks_is_named():
    assert "line 2, column 7" in refused(b'{"a": 1,\n "b": }')


def test_duplicate_keys():
    assert "`a` occurs twice" in refused(b'{"a": 1, "b": 2, "a": 1}')
    assert "`5`" in refused(b'{"logit_bias": {"5": 1, "5": 2}}')
    assert "occurs twice" in refused(rb'{"\ud800": 1, "\ud800": 2}')


def test_not_utf8():
    assert "byte 2" in refused(b'{"\xff": 1}')
    refused('{"a": 1}'.encode("utf-16"))


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000, b"-" + b"9" * 5000])
def test_numbers_beyond_what_can_be_read(number: bytes):
    assert "too " in refused(b'{"max_tokens": %s}' % number)


def test_case_10_1e300_is_a_float():
    assert parse_json(b'{"max_tokens": 1e300}') == {"max_tokens": 1e300}
    assert parse_json(b"9007199254740993") == 9007199254740993


def test_nesting():
    assert parse_json(b"[" * 32 + b'"a"' + b"]" * 32)
    assert parse_json(b"[" * 32 + rb'"\ud83d\ude00"' + b"]" * 32)
    for depth in (33, 34, 1000, 100_000):
        assert "deep" in refused(b"[" * depth + b"]" * depth)
        assert "deep" in refused(b'{"a":' * depth + b"1" + b"}" * depth)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_what_is_written_as_json_is_read_as_it_was(value: Any):
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:0e-.\\ud8', max_size=30).map(str.encode))
def test_junk_is_refused_and_never_crashes(body: bytes):
    try:
        parse_json(body)
    except InvalidRequest as error:
        assert error.message.encode()
