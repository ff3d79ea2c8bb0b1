"""Allowed strings as an automaton in arrays, against their definition by brute force."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.guide import Guide as Oracle
from toolkit.errors import InvalidRequest
from toolkit.models.compiler import jit
from toolkit.sampling.guide import EDGES, FREE, WINDOW, Guide, advance, allowed, pack

VOCABULARY = [b"a", b"b", b"c", b"ab", b"bc", b"abc", b"aa", b"b", b"", b"", b"cab"]
"""Id 7 has the bytes of id 1, 8 has none and 9 ends a text."""
EOS = 9
TEXTS = st.text("abc", min_size=1, max_size=6).map(str.encode)
CHOICES = st.lists(TEXTS, min_size=1, max_size=6, unique=True)

masks = jit(allowed, static_argnums=2)
steps = jit(advance)


def pieces(vocabulary: Sequence[bytes]) -> dict[bytes, list[int]]:
    """The ids that stand for some bytes."""
    found: dict[bytes, list[int]] = {}
    for token, piece in enumerate(vocabulary):
        if piece:
            found.setdefault(piece, []).append(token)
    return found


def guide_of(choices: Sequence[bytes], eos_id: int | None = EOS) -> Guide:
    return Guide.from_choices(choices, pieces(VOCABULARY), eos_id)


def places(guide: Guide, choices: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Every node that can be reached and the bytes that lead there: there is one text for each."""
    todo, seen = [(1, b"")], {1}
    while todo:
        node, done = todo.pop()
        yield node, done
        for token, after in guide.edges[node - 1].items():
            if after != FREE and after not in seen:
                seen.add(after)
                todo.append((after, done + VOCABULARY[token]))


# On the host


@given(CHOICES)
@settings(max_examples=200)
def test_edges_are_what_the_definition_allows(choices):
    guide, oracle = guide_of(choices), Oracle(tuple(choices), VOCABULARY, (EOS,))
    for node, done in places(guide, choices):
        out = guide.edges[node - 1]
        assert sorted(out) == oracle.allowed(done)
        for token, after in out.items():
            ends = token == EOS or oracle.finished(done + VOCABULARY[token])
            assert (after == FREE) == ends
            assert guide.advance(node, token) == after


def test_a_choice_that_begins_another_competes_with_it_through_the_end_of_text():  # contract 90
    guide = guide_of([b"a", b"abc"])
    assert guide.edges[0] == {0: 2, 3: 3, 5: FREE}  # a, ab and abc from the start
    assert guide.edges[1] == {1: 3, 7: 3, 4: FREE, EOS: FREE}  # after a: b twice, bc, the end
    assert guide.edges[2] == {2: FREE}
    with pytest.raises(ValueError, match="needs an end-of-sequence token"):
        guide_of([b"a", b"ab"], eos_id=None)


def test_choices_that_begin_no_other_need_no_end_of_text():
    assert guide_of([b"a", b"bc"], eos_id=None).edges == ({0: FREE, 1: 2, 7: 2, 4: FREE}, {2: FREE})


def test_free_rows_stay_free():
    assert guide_of([b"ab"]).advance(FREE, 0) == FREE
    assert guide_of([b"ab"]).advance(1, 2) == FREE  # no edge


def test_a_token_that_leads_nowhere_is_left_out():
    # "ab" and "c" spell abc; "a" alone would leave "bc", which no token begins.
    guide = Guide.from_choices([b"abc"], {b"a": [0], b"ab": [1], b"c": [2]}, None)
    assert [guide.edges[0], guide.edges[2]] == [{1: 3}, {2: FREE}]


def test_a_choice_that_cannot_be_spelled_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="`guided_choice` 'abd' cannot be spelled") as caught:
        guide_of([b"abc", b"abd"])
    assert caught.value.param == "guided_choice"


# On the device


@given(st.lists(CHOICES, min_size=1, max_size=4))
@settings(max_examples=60)
def test_packed_guides_answer_as_each_alone(groups):
    guides = [guide_of(choices) for choices in groups]
    tables, starts = pack(guides)
    tokens = np.arange(len(VOCABULARY), dtype=np.int32)
    for guide, choices, start in zip(guides, groups, starts, strict=True):
        for node, _ in places(guide, choices):
            at = node + start - 1
            mask = masks(tables, np.full(1, at, np.int32), len(VOCABULARY))
            assert np.flatnonzero(mask).tolist() == sorted(guide.edges[node - 1])
            after = np.asarray(steps(tables, np.full(len(tokens), at, np.int32), tokens))
            alone = [guide.advance(node, token) for token in tokens.tolist()]
            assert after.tolist() == [a + start - 1 if a else FREE for a in alone]


def test_free_rows_may_draw_anything_beside_guided_ones():
    tables, starts = pack([guide_of([b"ab"]), guide_of([b"c"])])
    nodes = np.asarray([FREE, starts[0], FREE, starts[1]], np.int32)
    mask = np.asarray(masks(tables, nodes, len(VOCABULARY)))
    assert mask.sum(axis=1).tolist() == [11, 2, 11, 1]
    assert np.flatnonzero(mask[1]).tolist() == [0, 3] and np.flatnonzero(mask[3]).tolist() == [2]
    after = steps(tables, nodes, np.asarray([0, 0, 5, 2], np.int32))
    assert np.asarray(after).tolist() == [FREE, 2, FREE, FREE]


def test_no_guide_allows_everything():
    tables, starts = pack([])
    assert starts == [] and tables.token.shape == (EDGES,) and tables.window == WINDOW
    assert np.asarray(masks(tables, np.zeros(2, np.int32), 5)).all()


def test_other_guides_do_not_trace_again():
    traces = []

    @jit
    def both(tables, node, token):
        traces.append(node.shape)
        return allowed(tables, node, len(VOCABULARY)), advance(tables, node, token)

    zeros = np.zeros(2, np.int32)
    for groups in ([], [[b"a"]], [[b"ab", b"abc"], [b"c"]]):
        both(pack([guide_of(choices) for choices in groups])[0], zeros, zeros)
    assert traces == [(2,)]


def test_a_thousand_choices():
    words = [f"{first}{second}{third}" for first in "abc" for second in "abc" for third in "ab"]
    choices = [f"{word} {number}".encode() for number in range(56) for word in words][:1000]
    vocabulary = [bytes([byte]) for byte in range(256)] + [word.encode() for word in words] + [b""]
    guide = Guide.from_choices(choices, pieces(vocabulary), len(vocabulary) - 1)
    oracle = Oracle(tuple(choices), vocabulary, (len(vocabulary) - 1,))
    tables, (start,) = pack([guide])
    rng = np.random.default_rng(0)
    for _ in range(20):
        node, done = start, b""
        while node != FREE:
            mask = np.asarray(masks(tables, np.full(1, node, np.int32), len(vocabulary)))[0]
            assert np.flatnonzero(mask).tolist() == oracle.allowed(done)
            token = int(rng.choice(np.flatnonzero(mask)))
            node = int(steps(tables, np.full(1, node, np.int32), np.full(1, token, np.int32))[0])
            done += vocabulary[token]
        assert done in choices


def test_more_tokens_after_one_node_than_the_window_make_it_wider():
    vocabulary = {bytes([high, low]): [256 * high + low] for high in range(8) for low in range(256)}
    guide = Guide.from_choices(list(vocabulary), vocabulary, None)
    tables, (start,) = pack([guide])
    assert len(guide.edges[0]) == 2048 and tables.window == 8 * WINDOW
    node, last = np.full(2, start, np.int32), np.asarray([0, 2047], np.int32)
    assert np.asarray(masks(tables, node, 2050)).sum(axis=1).tolist() == [2048, 2048]
    assert np.asarray(steps(tables, node, last)).tolist() == [FREE, FREE]


def test_long_choice_takes_memory_as_it_is_long():
    tracemalloc.start()
    guide = Guide.from_choices([b"ab" * 20_000, b"ab" * 10_000], pieces(VOCABULARY), EOS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(guide.edges) == 40_000
    assert guide.edges[19_998] == {0: 20_000, 3: 20_001}  # behind 9,999 pairs: a and ab
    assert set(guide.edges[20_000]) == {0, 3, EOS}
    assert peak < 100e6
