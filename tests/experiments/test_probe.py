"""The probe: a right target passes every check, and each fault fails its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments import faults
from toolkit.experiments.probe import Probe, probe
from toolkit.experiments.target import Local
from toolkit.server import Server


@pytest.fixture(scope="module")
def toy(printable: LM) -> LM:
    return printable


@pytest.fixture(scope="module")
def server(toy: LM) -> Iterator[Server]:
    with toolkit.serve(toy) as running:
        yield running


@pytest.fixture(scope="module")
def right(toy: LM) -> Probe:
    return probe(toy)


def verdicts(found: Probe) -> dict[str, str]:
    return {c.check: c.verdict for c in found if c.verdict != "as expected"}


def test_the_engine_passes_every_check(right: Probe):
    assert verdicts(right) == {}
    assert len(right.checks) == 23
    assert 30 < right.requests < 40
    assert list(right.frame.columns) == ["check", "expected", "observed", "verdict"]
    assert right.identity["kind"] == "local"


def test_the_legacy_route_passes_and_refuses_a_suffix(server: Server):
    assert verdicts(probe(server)) == {"suffix": "refused"}


def test_the_strict_route_passes_but_for_usage_which_it_has_not(server: Server):
    assert verdicts(probe(f"{server.url}/v1/openai/v1")) == {"prompt tokens": "unknown"}


FAULTS: dict[str, tuple[Any, list[str]]] = {
    "scaled": (faults.scaled_logprobs, ["logprobs under temperature", "logprobs under top_p"]),
    "bytes": (faults.byte_offsets, ["text_offset"]),
    "narrow": (faults.top_p_off_by_one, ["top_p"]),
    "wide": (lambda lm: faults.top_p_off_by_one(lm, by=1), ["top_p"]),
    "penalties": (faults.penalties_count_prompt, ["penalties"]),
    "seed": (faults.seed_ignored, ["seed"]),
    "hidden bos": (lambda lm: faults.bos_added(lm, tells=False), ["prompt tokens", "echo"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_its_own_check_and_no_other(toy: LM, name: str):
    make, failing = FAULTS[name]
    assert probe(make(toy)).differing == failing


def test_what_a_fault_looks_like(toy: LM):
    found = probe(faults.scaled_logprobs(toy))
    assert found["logprobs under temperature"].value == ["scaled", "unscaled"]
    assert "slope 2.00 at 0.5" in found["logprobs under temperature"].observed
    assert probe(faults.top_p_off_by_one(toy))["top_p"].value == "narrow"
    assert probe(faults.top_p_off_by_one(toy, by=1))["top_p"].value == "wide"
    assert probe(faults.byte_offsets(toy))["text_offset"].value == ["bytes", False]


class Poor:
    """A server that takes little: no ids, no alternatives, no echo, no `n`, no streams."""

    name = "poor"

    def __init__(self, lm: LM):
        self.local = Local(lm)

    def complete(self, fields: Any) -> Any:
        known = ("prompt", "max_tokens", "temperature", "top_p", "stop", "frequency_penalty")
        if not isinstance(fields["prompt"], str):
            raise TargetError("text only", code=422, body='{"detail": "text"}')
        answer = self.local.complete({k: v for k, v in fields.items() if k in known})
        return type(answer)(body=answer.body, seconds=answer.seconds)

    def tokenize(self, text: str) -> None:
        return None

    def identity(self) -> dict[str, Any]:
        return {"kind": "poor"}

    def close(self) -> None: ...


def test_a_server_that_takes_little_is_told_so_and_breaks_nothing(toy: LM):
    found = probe(Poor(toy))
    assert found["logprobs 5"].observed == "none"
    assert found["echo"].value == "ignored"
    assert found["text_offset"].value == "none"
    assert found["seed"].value == "ignored"
    assert found["unknown field"].value == "ignored"
    assert found["guided_choice"].value == "ignored"
    assert found["suffix"].value == "ignored"
    assert found["prompt forms"].value == [["text"], []]
    assert found["stream"].verdict == "unknown"
    assert found["error"].value == "python"
    assert found["stop"].verdict == "as expected"


def test_a_server_with_one_choice_a_request_is_asked_about_eighty_times(toy: LM):
    class One(Poor):
        def complete(self, fields: Any) -> Any:
            return self.local.complete({k: v for k, v in fields.items() if k != "n"})

    assert 70 < probe(One(toy)).requests < 90


def test_nobody_to_ask_is_an_error_and_so_is_no_target():
    with pytest.raises(TargetError, match="cannot be reached"):
        probe("http://127.0.0.1:9/v1", model="x")
    with pytest.raises(InvalidRequest, match="must be a loaded model"):
        probe(3)


def test_it_shows_itself(right: Probe, toy: LM):
    assert "✓ seed" in str(right)
    wrong = probe(faults.byte_offsets(toy))
    assert "expected: characters of the returned text" in str(wrong)
    page = wrong._repr_html_()
    assert page.count("<tr>") == 24
    assert "✗ differs" in page
    with pytest.raises(KeyError, match="No check 'x'"):
        wrong["x"]
    assert wrong.to_json()["checks"][0]["check"] == "logprobs under temperature"


def test_hostile_texts_are_escaped(right: Probe):
    import dataclasses

    check = dataclasses.replace(right.checks[0], observed="<script>alert(1)</script>")
    page = dataclasses.replace(right, checks=(check,))._repr_html_()
    assert "<script>" not in page


def test_names_of_the_room(tmp_path: Path):
    assert toolkit.probe is probe
