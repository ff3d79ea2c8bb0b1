"""Programs that are compiled before a request needs them.

What a batch and its prompts call depends on sizes: rows, slots of the cache, tokens of a prompt's
chunk. `programs` lists all that requests up to a size can meet, and `warm_up` compiles them, on
several cores, without running any.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toolkit.engine.batch import shape_of, variant_of
from toolkit.engine.engine import CLOSED, Engine
from toolkit.engine.groups import REUSE, SHAPES, Shape
from toolkit.engine.job import Job
from toolkit.engine.prefill import lone, padded, program_of, top_bucket
from toolkit.engine.programs import crowded, programs_read, programs_traced
from toolkit.engine.scheduler import (
    CHUNKS,
    ROWS,
    SLOTS,
    Limits,
    chunk_bucket,
    prompt_slots,
    row_bucket,
    slot_bucket,
)
from toolkit.engine.state import Arrival
from toolkit.engine.steps import Steps
from toolkit.errors import EngineClosed
from toolkit.kernels.processor import cores
from toolkit.models.attention import attends_by_kernel
from toolkit.models.cache import SharedPrefixes
from toolkit.models.packing import Packing
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Rows

log = logging.getLogger("toolkit.engine")

ROOM = 0.4
"""Share of the areas of memory that programs may take here. At a half the engine drops them all, so
a few more must fit."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function and what it will be called with: shapes stand for large arrays."""

    name: str
    function: Any
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is warmed up for: up to `rows` sequences at a time, each of up to `tokens` tokens of
    prompt and completion, that ask for what `job` does."""

    job: Job
    rows: int
    tokens: int
    company: bool
    """Whether several prompts may wait at one time: short ones are computed together."""
    blocks: Sequence[int]
    """Decode steps in a dispatch."""

    @property
    def tops(self) -> list[int | None]:
        """Alternatives that programs for prompts compute; None is of one that scores nothing."""
        asked = self.job.score
        return [None] if asked is None else [None, 0, *([asked] if asked else [])]

    def batches(self, limits: Limits) -> list[tuple[int, int]]:
        """Rows and slots of all batches."""
        fewest = row_bucket(max(limits.min_rows, limits.groups))
        most = row_bucket(max(self.rows, fewest))
        return [
            (rows, slots)
            for rows in ROWS
            if fewest <= rows <= most
            for slots in _doubling(slot_bucket(1, rows), slot_bucket(self.tokens, rows))
        ]

    def caches(self) -> list[int]:
        """Slots of a prompt on its own, also of one that goes on from another's cache."""
        shared = (0, *range(REUSE, self.tokens))
        most = max(prompt_slots(at + padded(self.tokens - at)) for at in shared)
        return list(_doubling(prompt_slots(1), most))

    def chunks(self) -> list[tuple[Shape, int]]:
        """What one call computes of prompts, and the slots that it writes into."""
        longest = chunk_bucket(self.tokens)
        alone = [
            (lone(chunk), slots)
            for slots in self.caches()
            for chunk in CHUNKS
            if chunk <= min(slots, longest)
        ]
        together = [(s, prompt_slots(s.width)) for s in SHAPES if s.width <= longest]
        return alone + together * self.company


def warm_up(
    engine: Engine,
    job: Job,
    *,
    rows: int,
    tokens: int,
    done: Callable[[str, int], None] = lambda name, count: None,
) -> int:
    """Compile what requests need that ask for what `job` does: up to `rows` sequences that run or
    wait at one time, each of up to `tokens` tokens of prompt and completion. How many programs were
    new to this process.

    `done(name, count)` is called after each of `count` programs. Programs for which the system has
    no room are left out, with a warning in the log. An interrupt waits for those that are being
    compiled. Raises EngineClosed.
    """
    _check_open(engine)
    company = rows > 1 or engine.limits.max_rows == 1
    sizes = Sizes(job=job, rows=rows, tokens=tokens, company=company, blocks=engine.blocks)
    wanted = list(programs(engine.steps, engine.leaves, engine.limits, sizes))
    new = left_out = 0
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        waiting = {pool.submit(_compile, program): program.name for program in wanted}
        try:
            for future in concurrent.futures.as_completed(waiting):
                _check_open(engine)
                found = future.result()
                left_out += found is None
                if found is not None and found.new:
                    why = "ahead of the first call"
                    engine.stats.note(waiting[future], found.seconds, found=found.read, why=why)
                    new += 1
                done(waiting[future], len(wanted))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if left_out:
        log.warning("%d of %d programs are left out: there is no room", left_out, len(wanted))
    return new


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """How it went."""

    new: bool
    """To this process."""
    read: bool
    """From disk."""
    seconds: float


def _compile(program: Program) -> _Compiled | None:
    """Trace and compile a program, in one go: one that was only traced would be compiled by the
    request that calls it, unnoticed. None where there is no room."""
    if crowded(ROOM):
        return None
    began, traced, read = time.perf_counter(), programs_traced(), programs_read()
    program.function.lower(*program.arguments).compile()
    seconds = time.perf_counter() - began
    return _Compiled(programs_traced() > traced, programs_read() > read, seconds)


def _check_open(engine: Engine) -> None:
    if not engine.leaves:
        raise EngineClosed(CLOSED)


def programs(steps: Steps, leaves: tuple, limits: Limits, sizes: Sizes) -> Iterator[Program]:
    """All that requests of these sizes can call."""
    weights, dtype = _shapes(leaves, steps), leaves[0].dtype
    caches: dict[tuple[int, int], Any] = {}

    def cache(rows: int, slots: int) -> Iterator[Program]:
        if (rows, slots) not in caches:
            empty = Program("empty_cache", steps.empty_cache, (rows, slots, dtype))
            caches[rows, slots] = _made(empty, steps)
            yield empty

    for slots in sizes.caches():
        yield from cache(1, slots)
    own = {slots: made for (_, slots), made in caches.items()}
    for before in own.values():
        yield from (Program("stretch", steps.stretch, (before, slots)) for slots in own)
    for shape, slots in sizes.chunks():
        yield from cache(shape.rows, slots)
        for asked in sizes.tops:
            yield _prompt(steps, weights, caches[shape.rows, slots], shape, slots, asked)
    for (rows, _), made in caches.items():
        if rows > 1:
            yield Program("rows_apart", steps.apart, (made, _logits(steps, rows), rows))
    yield from _of_batches(steps, weights, limits, sizes, own)


def _prompt(
    steps: Steps, weights: tuple, cache: Any, shape: Shape, slots: int, asked: int | None
) -> Program:
    """A chunk of prompts."""
    tokens = np.zeros(shape.tokens, np.int32).reshape(1 if shape.packed else shape.rows, -1)
    start = last = np.zeros(shape.rows, np.int32)
    packing = None
    if shape.packed:
        size = {"rows": shape.rows, "width": shape.width, "tokens": shape.tokens}
        packing = Packing.of([1], **size)
    args = weights, cache, tokens, start, last, packing
    if asked is None:
        return Program(program_of(shape, slots, None), steps.prefill, args)
    top = top_bucket(asked, steps.config.vocab_size)
    return Program(program_of(shape, slots, top), steps.prefill_scored, (*args, tokens, top))


def _of_batches(
    steps: Steps, weights: tuple, limits: Limits, sizes: Sizes, caches: Mapping[int, Any]
) -> Iterator[Program]:
    """What fills, runs and moves the rows of each batch."""
    batches = sizes.batches(limits)
    states = {}
    for size in (*batches, *((limits.groups, max(SLOTS, slots)) for _, slots in batches)):
        if size not in states:
            empty = Program("empty", steps.empty, (*size, weights[0].dtype))
            states[size] = _made(empty, steps)
            yield empty
    zero, logits = np.int32(0), _logits(steps)
    for rows, slots in batches:
        state, name = states[rows, slots], shape_of(rows, slots)
        source = np.zeros(limits.groups, np.int32)
        yield Program(f"take_row[{name}]", steps.take_row, (state, source))
        for before in sorted({max(SLOTS, slots) for _, slots in batches}):
            one = states[limits.groups, before]
            yield Program(f"put_row[{name}, of slots={before}]", steps.put_row, (state, one, zero))
        for own, cache in caches.items():
            longest = min(sizes.tokens, own)
            for length in {slot_bucket(max(1, longest // n), 1) for n in (1, 2, 4)}:
                prompt = np.zeros(length, np.int32)
                arrival = Arrival(row=zero, length=zero, node=zero, prompt=prompt)
                yield Program(f"insert[{name}]", steps.insert, (state, cache, logits, arrival))
        yield from _decode(steps, weights, sizes, state, rows, name)


def _decode(
    steps: Steps, weights: tuple, sizes: Sizes, state: Any, rows: int, name: str
) -> Iterator[Program]:
    """The first tokens of rows, and their next ones."""
    job = sizes.job
    asked = Rows.stack([job.params] * rows, [job.report] * rows)
    guides = [job.guide] if job.guide else []
    variant = variant_of(asked, [bool(guides)] * rows, steps.config.vocab_size)
    given = steps.put(asked, "batch"), steps.put(pack(guides)[0])
    pending, shared = np.zeros(rows, np.bool_), None
    if attends_by_kernel(steps.config):
        shared = steps.put(SharedPrefixes.none(rows))
    yield Program(f"first[{name}]", steps.first, (state, *given, pending, variant))
    for count in sizes.blocks:
        arguments = weights, state, *given, shared, count, variant
        yield Program(f"decode[{name}, steps={count}]", steps.decode, arguments)


def _made(program: Program, steps: Steps) -> Any:
    """The shapes of what a program gives; on a mesh, where its parts lie."""
    lowered = program.function.lower(*program.arguments)
    if steps.split is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
    places = lowered.compile().output_shardings
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        lowered.out_info,
        places,
    )


def _logits(steps: Steps, *rows: int) -> jax.ShapeDtypeStruct:
    """Of prompts, or of one."""
    vocab = steps.part.vocab_size
    if steps.split is None:
        return jax.ShapeDtypeStruct((*rows, vocab), jnp.float32)
    place = steps.split.sharding(*[None for _ in rows], "vocab")
    return jax.ShapeDtypeStruct((*rows, vocab * steps.split.model), jnp.float32, sharding=place)


def _shapes(leaves: tuple, steps: Steps) -> tuple:
    """Of the weights; on a mesh, where their parts lie."""
    if steps.split is None:
        return tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return tuple(jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for x in leaves)


def _doubling(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2
