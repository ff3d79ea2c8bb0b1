"""Every case of section 6 of the contract has a test that is named after it."""

from __future__ import annotations

import re
from pathlib import Path

CASES = range(1, 111)

HTTP_ONLY = {109}
"""Content types and the size of a body: nothing of it exists below the routes."""

HTTP_TOO = {
    14: "the body's bytes",
    15: "methods and paths",
    16: "JSON instead of an event",
    35: "a status instead of an event",
    43: "the header that reports the seed",
    68: "bodies as sent",
    80: "the header with the number of prompt entries",
    100: "the place before [DONE]",
    101: "framing, content type and openai-python",
    102: "frames after a fault",
    103: "a client that disconnects",
    104: "the header Retry-After",
}
"""Tested here as far as there is no HTTP in it; the rest belongs to the tests of the routes."""


def named_after(source: str) -> set[int]:
    """The cases in the names of a file's tests: `case_07`, `case_03_and_04`, `case_18_to_22`."""
    found: set[int] = set()
    for first, last, others in re.findall(
        r"def test_\w*?case_(\d+)(?:_to_(\d+))?((?:_and_\d+)*)", source
    ):
        found |= {*range(int(first), int(last or first) + 1), *map(int, re.findall(r"\d+", others))}
    return found


def test_ranges_and_pairs_are_read():
    names = "def test_case_03_and_04_x():\ndef test_case_18_to_22():\ndef test_b_case_7_2():\n"
    assert named_after(names) == {3, 4, 18, 19, 20, 21, 22, 7}


def test_every_case_has_a_test():
    tests = Path(__file__).parents[1]
    found: set[int] = set()
    for path in tests.rglob("test_*.py"):
        if path != Path(__file__):
            found |= named_after(path.read_text(encoding="utf-8"))
    assert found <= set(CASES)
    assert sorted(set(CASES) - HTTP_ONLY - found) == []
    assert not HTTP_ONLY & set(HTTP_TOO)
