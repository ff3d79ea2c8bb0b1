"""Allowed strings as a token automaton in arrays, stepped inside jit.

A choice may be tokenised in any way. The choices form a trie of bytes; a token is allowed at a node
when its bytes can be walked from there; the walk ends at the token's next node. The edges are kept
sorted (node, token), so that the tokens of a node are a slice and the next node is a binary search.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from toolkit.errors import InvalidRequest
from toolkit.sampling.params import bucket
from toolkit.sampling.vocabulary import columns_of

FREE = 0
"""The node of rows without a guide, and of rows whose choice is complete."""
EDGES, WINDOW, NODES = 16_384, 1_024, 4_096
"""Sizes of the smallest tables; larger guides make larger buckets, which compile anew."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GuideTables:
    """The automata of all guides of a batch. Node n's edges are `first[n] .. first[n + 1]`."""

    first: Int[Array, "N"]
    token: Int[Array, "E"]
    next: Int[Array, "E"]
    window: int = dataclasses.field(metadata={"static": True}, default=WINDOW)
    """At least the largest number of edges of a node; a static bucket."""


def allowed(tables: GuideTables, node: Int[Array, "B"], vocab: int) -> Bool[Array, "B V"]:
    """Which tokens may follow: `[B]` -> `[B, V]`. All of them at node 0.

    `vocab` is the number of columns, which are all ids where the vocabulary is whole.
    """
    offset = jnp.arange(tables.window, dtype=jnp.int32)[None, :]
    index = tables.first[node][:, None] + offset
    inside = index < tables.first[node + 1][:, None]
    token = tables.token[jnp.minimum(index, tables.token.shape[0] - 1)]
    rows = jnp.arange(node.shape[0], dtype=jnp.int32)[:, None]
    mask = jnp.broadcast_to((node == FREE)[:, None], (node.shape[0], vocab))
    column = jnp.where(inside, columns_of(token, vocab), vocab)
    return mask.at[rows, column].set(True, mode="drop")


def advance(tables: GuideTables, node: Int[Array, "B"], token: Int[Array, "B"]) -> Int[Array, "B"]:
    """The node after a token: `[B]`, `[B]` -> `[B]`. A token that is no edge leads to node 0."""
    at, found = edge_of(tables, node, token)
    return jnp.where(found, tables.next[at], FREE)


def edge_of(
    tables: GuideTables, node: Int[Array, "*B"], token: Int[Array, "*B"]
) -> tuple[Int[Array, "*B"], Bool[Array, "*B"]]:
    """The edge of a node with a token, and whether there is one: `[...]`, `[...]` -> `[...]`."""
    first, tokens = tables.first, tables.token
    low, high = first[node], first[node + 1]

    def halve(_, ends):
        low, high = ends
        middle = (low + high) // 2
        right = (low < high) & (tokens[jnp.minimum(middle, tokens.shape[0] - 1)] < token)
        return jnp.where(right, middle + 1, low), jnp.where(right, high, jnp.minimum(middle, high))

    at, _ = jax.lax.fori_loop(0, tables.window.bit_length(), halve, (low, high))
    at = jnp.minimum(at, tokens.shape[0] - 1)
    return at, (at < first[node + 1]) & (tokens[at] == token)


@dataclasses.dataclass(frozen=True, eq=False)
class Guide:
    """The automaton of one set of choices. Node 1 is the start; nodes are numbered from 1.

    `edges[n]` maps the tokens allowed at node n to the next node. A choice that is no prefix of
    another ends at `FREE`; one that is a prefix of another has an edge for the end-of-sequence
    token.
    """

    edges: tuple[dict[int, int], ...]
    """Index n - 1 holds the edges of node n."""

    @classmethod
    def from_choices(
        cls, choices: Sequence[bytes], tokens: Mapping[bytes, Sequence[int]], eos_id: int | None
    ) -> Guide:
        """Cross the trie of the choices with the vocabulary: every piece of a choice that is a
        token.

        `tokens` maps bytes to the ids that stand for them. `eos_id` may be None when no choice is a
        prefix of another. A token after which no choice could be completed is left out.

        Raises InvalidRequest for a choice that the vocabulary cannot spell.
        """
        paths, ends, count = _walk(sorted(set(choices)))
        if ends and eos_id is None:
            raise ValueError("a choice that is a prefix of another needs an end-of-sequence token")
        longest = max(map(len, tokens), default=0)
        edges: list[dict[int, int]] = [{} for _ in range(count)]
        spelled = {
            choice: _cross(choice, path, tokens, longest, edges) for choice, path in paths.items()
        }
        for node in ends:
            edges[node - 1][cast("int", eos_id)] = FREE
        for choice in choices:
            if not spelled[choice]:
                raise InvalidRequest(
                    f"`guided_choice` {choice.decode(errors='replace')!r} cannot be spelled with "
                    "the tokens of this model. Leave it out.",
                    param="guided_choice",
                )
        for out in reversed(edges):  # longer prefixes first: what they lead to is known
            for token, after in list(out.items()):
                if after != FREE and not edges[after - 1]:
                    del out[token]
        return cls(edges=tuple(edges))

    def advance(self, node: int, token: int) -> int:
        """The node after a token, on the host."""
        return self.edges[node - 1].get(token, FREE) if node else FREE


def _walk(choices: Sequence[bytes]) -> tuple[dict[bytes, list[int]], list[int], int]:
    """Number the nodes of the trie in the order of their prefixes, from sorted choices.

    Gives the nodes along each choice, from the start to behind its last byte, where it is `FREE`
    unless another choice goes on; the nodes where a choice ends and another goes on; and how many
    nodes there are. Takes time and memory as the choices are long.
    """
    paths: dict[bytes, list[int]] = {}
    ends: list[int] = []
    before, path, count = b"", [FREE], 0
    for choice in choices:
        shared = _shared(before, choice)
        first = shared if path[shared] == FREE else shared + 1
        fresh = range(count + 1, count + 1 + len(choice) - first)
        count += len(fresh)
        if before in paths and first == shared:  # the one before ends here, and this one goes on
            path[shared] = fresh[0]
            ends.append(fresh[0])
        before, path = choice, [*path[:first], *fresh, FREE]
        paths[choice] = path
    return paths, ends, count


def _shared(first: bytes, second: bytes) -> int:
    """How many bytes two choices have in common at their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _cross(
    choice: bytes,
    path: Sequence[int],
    tokens: Mapping[bytes, Sequence[int]],
    longest: int,
    edges: Sequence[dict[int, int]],
) -> bool:
    """Add the tokens that are pieces of one choice; whether some sequence of them spells it."""
    reached = [True] + [False] * len(choice)
    for start in range(len(choice)):
        out = edges[path[start] - 1]
        for end in range(start + 1, min(len(choice), start + longest) + 1):
            found = tokens.get(choice[start:end], ())
            reached[end] |= reached[start] and bool(found)
            for token in found:
                out[token] = path[end]
    return reached[-1]


def pack(guides: Sequence[Guide]) -> tuple[GuideTables, list[int]]:
    """One set of tables for several guides, and the start node of each."""
    tokens: list[np.ndarray] = []
    after: list[np.ndarray] = []
    first = [0, 0]
    starts, offset = [], 0
    for guide in guides:
        starts.append(offset + 1)
        for edges in guide.edges:
            ids = np.fromiter(edges.keys(), np.int32, len(edges))
            next_ = np.fromiter(edges.values(), np.int32, len(edges))
            order = np.argsort(ids)
            tokens.append(ids[order])
            after.append(np.where(next_[order] > 0, next_[order] + offset, FREE).astype(np.int32))
            first.append(first[-1] + len(ids))
        offset += len(guide.edges)
    widest = max((len(t) for t in tokens), default=0)
    size = bucket(first[-1], EDGES)
    return (
        GuideTables(
            first=_extend(np.asarray(first, np.int32), bucket(len(first) + 1, NODES), first[-1]),
            token=_extend(np.concatenate([np.zeros(0, np.int32), *tokens]), size, -1),
            next=_extend(np.concatenate([np.zeros(0, np.int32), *after]), size, FREE),
            window=bucket(widest, WINDOW),
        ),
        starts,
    )


def _extend(values: np.ndarray, size: int, fill: int) -> Any:
    out = np.full(size, fill, np.int32)
    out[: len(values)] = values
    return out
