"""What `/metrics` shows."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import LEGACY, STRICT
from toolkit.completion.complete import LM
from toolkit.server import create_app


def samples(text: str) -> dict[str, float]:
    """Name and labels -> value."""
    return {
        s.name + "".join(f" {k}={v}" for k, v in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_metrics_count_requests_tokens_and_times(toy: LM):
    client = create_app(toy).test_client()
    for asked in ({"prompt": "AE"}, {"prompt": "A", "max_tokens": 1}, {"prompt": 1}):
        client.post(LEGACY, json=asked)
    client.get("/wp-admin")
    client.get("/wp-login")
    seen = samples(client.get("/metrics").text)
    assert seen[f"toolkit_requests_total method=POST route={LEGACY} status=200"] == 2
    assert seen[f"toolkit_requests_total method=POST route={LEGACY} status=400"] == 1
    assert seen["toolkit_requests_total method=GET route=unknown status=404"] == 2
    assert seen["toolkit_prompt_tokens_total model=toy"] == 3
    assert seen["toolkit_completion_tokens_total model=toy"] == 5
    for name in ("queue", "first_token", "completion"):
        assert seen[f"toolkit_{name}_seconds_count model=toy"] == 2
    for name in ("generated", "prefilled", "reused", "steps", "compiles", "compile_seconds"):
        assert f"toolkit_engine_{name}_total model=toy" in seen


def test_metrics_show_the_queue_and_the_batch(toy: LM):
    client = create_app(toy).test_client()
    asked = {"model": "toy", "prompt": ["A", "B"], "n": 2, "stream": True}
    with client.post(STRICT, json=asked):
        during = samples(client.get("/metrics").text)
    after = samples(client.get("/metrics").text)
    names = ("toolkit_sequences_waiting model=toy", "toolkit_sequences_running model=toy")
    assert sum(during[name] for name in names) == 4
    assert sum(after[name] for name in names) == 0


def test_two_applications_in_one_process_count_apart(toy: LM):
    first, second = create_app(toy).test_client(), create_app(toy).test_client()
    first.get("/health")
    name = "toolkit_requests_total method=GET route=/health status=200"
    assert samples(first.get("/metrics").text)[name] == 1
    assert name not in samples(second.get("/metrics").text)
