"""Programs that are compiled ahead: afterwards no request of those sizes compiles anything."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from flax import nnx

import toolkit
from tests.engine.test_programs import any_request
from tests.models.tiny_families import CASES
from toolkit.engine import warmup
from toolkit.engine.engine import Engine
from toolkit.engine.job import Ended, Event, Failed, Job
from toolkit.engine.programs import drop_programs
from toolkit.engine.scheduler import Limits
from toolkit.engine.stats import Stats
from toolkit.engine.warmup import warm_up
from toolkit.errors import EngineClosed
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config
from toolkit.sampling.guide import Guide
from toolkit.sampling.params import Report, SamplingParams

TOKENS = 60
VOCABULARY = 11
COMPILED: list[str] = []
"""Names of functions that XLA compiled, or found on disk, in this process."""
OURS = {"jit(body)", "jit(run)"}


def _listen(event: str, seconds: float, **about: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(about["fun_name"])


jax.monitoring.register_event_duration_secs_listener(_listen)
PLAIN = Job(prompt=(1,), params=SamplingParams(), max_tokens=1)


@pytest.fixture(scope="module", autouse=True)
def room() -> Iterator[None]:
    """For these programs, and afterwards for those of other tests."""
    drop_programs()
    yield
    drop_programs()


@pytest.fixture
def make() -> Iterator[Callable[..., Engine]]:
    """Engines of a tiny model, closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(**limits: Any) -> Engine:
            config = read_config(CASES["llama"] | {"max_position_embeddings": 512})
            held = Limits(**{"max_rows": 16, "context": 512, **limits})
            engine = Engine(Decoder(config, rngs=nnx.Rngs(0)), limits=held)
            return stack.enter_context(contextlib.closing(engine))

        yield made


def any_jobs(rng: random.Random, count: int, tokens: int, **others: Any) -> list[Job]:
    """Up to `tokens` tokens each, of the prompt and after it; some prompts begin as others do."""
    found: list[Job] = []
    for _ in range(count):
        length = rng.randint(1, tokens - 1)
        prompt = [rng.randrange(VOCABULARY) for _ in range(length)]
        if found and rng.random() < 0.3:
            begun = rng.choice(found).prompt[: rng.randint(1, length)]
            prompt[: len(begun)] = begun
        params = SamplingParams(temperature=rng.choice([0.0, 1.0]), seed=rng.randrange(99))
        most = rng.randint(1, min(8, tokens - length))
        found.append(Job(prompt=tuple(prompt), params=params, max_tokens=most, **others))
    return found


@contextlib.contextmanager
def nothing_compiled(stats: Stats) -> Iterator[None]:
    """Neither says the engine that it compiled something meanwhile, nor XLA."""
    known, count = list(stats.compiles), len(COMPILED)
    yield
    assert stats.compiles == known
    assert not OURS & set(COMPILED[count:])


def serve(engine: Engine, jobs: list[Job]) -> None:
    """Run jobs to their end, all at a time."""
    tickets, events = engine.submit(jobs)
    left = len(tickets)
    while left:
        event: Event = events.get(timeout=300)
        if isinstance(event, Failed):
            raise event.error
        left -= isinstance(event, Ended)


@pytest.mark.parametrize("limits", [{}, {"strict": True, "min_rows": 2}], ids=["", "strict"])
def test_requests_of_the_sizes_compile_nothing(make, limits):
    engine = make(**limits)
    before = len(COMPILED)
    new = warm_up(engine, PLAIN, rows=4, tokens=TOKENS)
    assert new == len(engine.stats.compiles) > 20
    assert sum(name in OURS for name in COMPILED[before:]) >= new
    rng = random.Random(5)
    with nothing_compiled(engine.stats):
        for _ in range(40):
            serve(engine, any_jobs(rng, rng.randint(1, 4), TOKENS))
            if rng.random() < 0.3:
                engine.forget_prompts()


def test_prompts_that_wait_for_the_only_row_compile_nothing(make):
    engine = make(max_rows=1)
    warm_up(engine, PLAIN, rows=1, tokens=20)
    with nothing_compiled(engine.stats):
        serve(engine, any_jobs(random.Random(4), 6, 20))


def test_nor_do_those_that_are_scored_and_guided_as_the_one_asked_for(make):
    engine = make()
    guide = Guide.from_choices([b"ab", b"b"], {b"a": [1], b"b": [2]}, 0)
    asked = {"score": 3, "guide": guide, "report": Report(top=5)}
    job = Job(prompt=(1,), params=SamplingParams(), max_tokens=1, **asked)
    warm_up(engine, job, rows=2, tokens=40)
    rng = random.Random(6)
    with nothing_compiled(engine.stats):
        for score in (3, 3, 0, None) * 5:
            jobs = any_jobs(rng, rng.randint(1, 2), 40, **(asked | {"score": score}))
            serve(engine, jobs)


def test_a_second_time_there_is_nothing_to_do(make):
    engine = make()
    heard: list[tuple[str, int]] = []
    assert warm_up(engine, PLAIN, rows=1, tokens=20) > 0
    with nothing_compiled(engine.stats):
        assert warm_up(engine, PLAIN, rows=1, tokens=20, done=lambda *it: heard.append(it)) == 0
    assert {count for _, count in heard} == {len(heard)}
    assert any(name.startswith("decode[rows=1") for name, _ in heard)


def test_a_larger_size_compiles_what_it_needs_later(make):
    engine = make()
    new = warm_up(engine, PLAIN, rows=1, tokens=20)
    serve(engine, [Job(prompt=(1, 2), params=SamplingParams(), max_tokens=2)] * 2)
    assert any("rows=2" in name for name, _ in engine.stats.compiles[new:])


def test_requests_run_meanwhile_and_are_not_blamed_for_it(make):
    """What one thread traces is not counted for another."""
    engine = make()
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    jobs = any_jobs(random.Random(7), 2, 20)
    serve(engine, jobs)
    known = len(engine.stats.compiles)

    def done(name: str, count: int) -> None:
        serve(engine, jobs)
        events.put(name)

    new = warm_up(engine, PLAIN, rows=4, tokens=20, done=done)
    assert len(engine.stats.compiles) == known + new
    assert not events.empty()


def test_it_stops_where_there_is_no_more_room(make, monkeypatch, caplog):
    engine = make()
    monkeypatch.setattr(warmup, "crowded", lambda share: len(engine.stats.compiles) >= 5)
    with caplog.at_level(logging.WARNING, "toolkit.engine"):
        assert 5 <= warm_up(engine, PLAIN, rows=4, tokens=64) < 20
    assert "programs are left out: there is no room" in caplog.text
    serve(engine, any_jobs(random.Random(8), 4, 64))


def test_an_interrupt_ends_it_and_the_engine_goes_on(make):
    engine = make()

    def interrupted(name: str, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm_up(engine, PLAIN, rows=4, tokens=64, done=interrupted)
    count, known = len(COMPILED), len(engine.stats.compiles)
    serve(engine, any_jobs(random.Random(9), 4, 64))
    here = sum(name in OURS for name in COMPILED[count:])
    assert len(engine.stats.compiles) - known >= here - 2  # these do not go through `watch`: empty


def test_an_engine_that_is_closed_meanwhile_ends_it(make):
    engine = make()
    with pytest.raises(EngineClosed, match="Load the model again"):
        warm_up(engine, PLAIN, rows=4, tokens=64, done=lambda name, count: engine.close())


def test_a_closed_engine_says_so(make):
    engine = make()
    engine.close()
    with pytest.raises(EngineClosed, match="Load the model again"):
        warm_up(engine, PLAIN, rows=1, tokens=20)


def test_a_loaded_model_compiles_ahead(lm):
    lm.warm_up(1, 30, prompt_logprobs=2)
    rng = random.Random(10)
    with nothing_compiled(lm.stats()):
        for number in range(6):
            lm.complete(f"Prompt {number} is", **any_request(rng))
        lm.complete("Prompt 2 is", echo=True, logprobs=2, max_tokens=2)
        lm.score(["The weather", "The climate"])


@pytest.mark.parametrize(
    ("sizes", "param"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": 65}, "rows"),
        ({"rows": True}, "rows"),
        ({"tokens": 1}, "tokens"),
        ({"tokens": 8193}, "tokens"),
        ({"tokens": "many"}, "tokens"),
        ({"temperature": -1}, "temperature"),
        ({"n": 2}, "n"),
        ({"prompt": "x"}, "prompt"),
        ({"max_tokens": 9}, "max_tokens"),
    ],
)
def test_sizes_that_cannot_be_are_refused(lm, sizes, param):
    with pytest.raises(toolkit.InvalidRequest) as refused:
        lm.warm_up(**sizes)
    assert refused.value.param == param
