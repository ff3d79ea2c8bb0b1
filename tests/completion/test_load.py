"""Arguments of `load` are checked before anything is read."""

from __future__ import annotations

import pytest

import toolkit
from toolkit.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_batch", 0),
        ("max_batch", 257),
        ("max_batch", True),
        ("max_waiting", 0),
        ("context", 0),
        ("context", -5),
        ("context", 2.5),
        ("context", "300"),
        ("prefix_bytes", -1),
        ("model", 5),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidRequest, match=f"`{name}`") as refused:
        toolkit.load(**{name: value})
    assert refused.value.param == name


def test_the_cached_model_is_looked_up_by_a_name():
    with pytest.raises(InvalidRequest, match="`model`"):
        toolkit.complete("a", model=["x"])


def test_a_cache_that_cannot_be_written_costs_no_completion(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "file"))
    with toolkit.load(folder) as lm:
        assert lm.name == str(folder)
