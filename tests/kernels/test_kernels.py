"""The compiled kernels: against NumPy in float64, bit by bit in every company, and how they are
had."""

from __future__ import annotations

import concurrent.futures
import ctypes
import dataclasses
import itertools
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit
from tests.models.tiny_families import CASES
from toolkit import kernels
from toolkit.errors import InvalidRequest, UnsupportedModel
from toolkit.kernels import library, processor
from toolkit.models.attention import attend
from toolkit.models.cache import LayerCache, SharedPrefixes
from toolkit.models.decoder import holds_bits
from toolkit.models.families import read_config
from toolkit.models.int8 import BASE, multiplied, rounded
from toolkit.models.layers import RMSNorm, contract, total

pytest.importorskip("ziglang", reason="needs the extra [kernels]")

ROWS = (1, 2, 5, 6, 7, 12, 13, 25, 193, 200)
CPU = Path("/proc/cpuinfo")
VNNI = CPU.exists() and "avx512_vnni" in CPU.read_text()
SIZES = [(1, 1), (3, 15), (4, 16), (9, 17), (70, 48), (300, 576), (9, 1536)]
"""Outputs and inputs: fewer than a tile, not a multiple of one, several panels."""


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
@pytest.mark.parametrize("rows", ROWS)
def test_product_equals_numpy(rows, outs, inputs):
    x, kernel = normal(rows, inputs), normal(outs, inputs, seed=1)
    found = np.asarray(kernels.product(x, kernel), np.float64)
    wide = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    # Sixteen running sums and four additions: each product is rounded inputs / 16 + 5 times.
    bound = (np.abs(wide[0]) @ np.abs(wide[1]).T) * (inputs / 16 + 5) * 2.0**-24
    assert (np.abs(found - wide[0] @ wide[1].T) <= bound + 1e-30).all()


@pytest.mark.parametrize("rows", [1, 6, 13, 200])
def test_a_product_may_be_added_to_something(rows):
    x, kernel, onto = normal(rows, 40), normal(9, 40, seed=1), normal(rows, 9, seed=2)
    found = kernels.product(x, kernel, onto)
    np.testing.assert_array_equal(found, onto + kernels.product(x, kernel))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
def test_a_row_has_the_same_bits_in_every_product(outs, inputs):
    x, kernel = normal(max(ROWS), inputs), normal(outs, inputs, seed=1)
    alone = np.concatenate([kernels.product(x[i : i + 1], kernel) for i in range(8)])
    for rows in ROWS:
        found = np.asarray(kernels.product(x[:rows], kernel))
        np.testing.assert_array_equal(found[:8], alone[:rows])


def rounded_case(outs: int, inputs: int) -> tuple[Any, Any, Any]:
    """64 rows of all sizes, among them zeros and the ends of float32; a kernel and its scale."""
    rng = np.random.default_rng(inputs)
    x = rng.standard_normal((64, inputs)) * 10.0 ** rng.integers(-20, 20, (64, 1))
    x[1:4] = x[1] * 0, np.sign(x[2]) * 1e33, np.sign(x[3]) * 1e-38
    kernel = rng.integers(-127, 128, (outs, inputs))
    return jnp.float32(x), jnp.int8(kernel), jnp.float32(rng.uniform(1e-4, 1e-2, outs))


def rounded_by_numpy(x: Any, kernel: Any, scale: Any) -> np.ndarray:
    """From the digits on without rounding."""
    first, step = map(np.asarray, rounded(x))
    second = np.rint((np.asarray(x) * (1 / step) - first) * np.float32(BASE))
    digits = first.astype(np.int64) * BASE + second.astype(np.int64)
    sums = digits @ np.asarray(kernel, np.int64).T
    return sums / BASE * step.astype(np.float64) * np.asarray(scale, np.float64)


@pytest.mark.parametrize(("outs", "inputs"), [*SIZES, (5, 100), (40, 64)])
def test_products_in_8_bits_are_numpys_and_have_the_bits_of_xla(outs, inputs):
    x, kernel, scale = rounded_case(outs, inputs)
    by_xla = np.asarray(jax.jit(multiplied)(x, kernel, scale))
    expected = rounded_by_numpy(x, kernel, scale)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(by_xla - expected) <= largest * 1e-6).all()
    for rows in [*range(1, 10), 16, 17, 64]:
        with kernels.using("rounded"):
            found = multiplied(x[64 - rows :], kernel, scale)
        np.testing.assert_array_equal(found, by_xla[64 - rows :])


@pytest.mark.parametrize("rows", [3, 32])
def test_the_largest_whole_numbers(rows):
    """Sums beyond 2^24, which float32 rounds, once and as XLA does; float32 has all of these."""
    signs = np.where(np.arange(7) % 2, -127, 127)[:, None]
    kernel = jnp.asarray(np.broadcast_to(signs, (7, 8192)), jnp.int8)
    x = jnp.full((rows, 8192), -127, jnp.float32)
    with kernels.using("rounded"):
        found = np.asarray(multiplied(x, kernel, jnp.ones(7)))
    np.testing.assert_array_equal(found, np.broadcast_to(-127.0 * signs[:, 0] * 8192, found.shape))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_poisoned_row_is_seen_in_8_bits_and_no_other(poison):
    x, kernel, scale = rounded_case(20, 64)
    found = np.asarray(kernels.rounded_product(x[:3].at[2, 5].set(poison), kernel, scale))
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(found[:2], kernels.rounded_product(x[:2], kernel, scale))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for other x86 processors")
@pytest.mark.parametrize(
    ("other", "most"),
    [
        ("x86_64_v3", 3),
        pytest.param("cascadelake", 64, marks=pytest.mark.skipif(not VNNI, reason="needs VNNI")),
    ],
)
def test_8_bits_on_processors_that_can_do_less(monkeypatch, tmp_path, other, most):
    flags = [flag.replace("native", other) for flag in library.FLAGS]
    monkeypatch.setattr(library, "FLAGS", flags)
    other = ctypes.CDLL(str(library._compiled(tmp_path)))
    assert other.rounded_rows() == most
    for rows, inputs in itertools.product((1, 2, 3, 7, 64), (5, 576, 14336)):
        x, *weights = rounded_case(9, inputs)
        case = x[:rows], *weights
        y = np.zeros((rows, 9), np.float32)
        pointers = [ctypes.c_void_p(np.asarray(array).ctypes.data) for array in (*case, y)]
        other.rounded_product(*pointers, *map(ctypes.c_int64, (rows, inputs, 9)))
        np.testing.assert_array_equal(y, jax.jit(multiplied)(*case))


def test_products_at_the_same_time_end_alike():
    """One caller has the team of threads, the others work alone."""
    x, kernel = normal(3, 576), normal(4000, 576, seed=1)
    expected = np.asarray(kernels.product(x, kernel))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: np.asarray(kernels.product(x, kernel)), range(200)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (1, 576), (3, 17), (70, 1536), (9, 64)])
def test_norm_equals_numpy_and_a_row_has_the_same_bits_in_every_company(rows, count, offset):
    x, scale = normal(rows, count) * 5, normal(count, seed=1)
    found = np.asarray(kernels.norm(x, scale, epsilon=1e-5, offset=offset))
    wide = np.asarray(x, np.float64)
    mean = np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = wide / mean * (offset + np.asarray(scale, np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
    alone = [kernels.norm(x[i], scale, epsilon=1e-5, offset=offset) for i in range(rows)]
    np.testing.assert_array_equal(found, alone)


def attention(
    q, layer: LayerCache, start, shared: SharedPrefixes | None = None, turns=None, **settings
) -> Any:
    """What the queries read, as if the keys and values of their own slots were new; these are wrong
    in the cache that is given."""
    batch, length = len(q), q.shape[2]
    slot = np.asarray(start)[:, None] + np.arange(length)
    at = np.arange(batch)[:, None], slice(None), slot
    each = [x.reshape(batch, -1, *x.shape[1:]) for x in (layer.keys, layer.values)]
    own = [x[at] for x in each]
    given = [x.at[at].set(jnp.nan).reshape(layer.keys.shape) for x in each]
    shared = shared or SharedPrefixes.none(batch)
    mixed, keys, values = kernels.attention(
        jnp.concatenate([q.transpose(0, 2, 1, 3), *own], axis=2),
        *given,
        start,
        shared.source,
        shared.length,
        turns,
        **settings,
    )
    np.testing.assert_array_equal(values, layer.values)
    if turns is None:
        np.testing.assert_array_equal(keys, layer.keys)
    return mixed.transpose(0, 2, 1, 3)


def by_numpy(q, layer, start, scale, cap, window) -> np.ndarray:
    """Query by query, in float64."""
    q, keys, values = (np.asarray(x, np.float64) for x in (q, layer.keys, layer.values))
    batch, heads, length, _ = q.shape
    kv = len(keys) // batch
    out = np.zeros(q.shape)
    for b, n, t in np.ndindex(batch, heads, length):
        head, last = b * kv + n * kv // heads, int(start[b]) + t
        first = 0 if window is None else max(0, last - window + 1)
        scores = keys[head, first : last + 1] @ q[b, n, t] * scale
        scores = scores if cap is None else np.tanh(scores / cap) * cap
        shares = np.exp(scores - scores.max())
        out[b, n, t] = shares @ values[head, first : last + 1] / shares.sum()
    return out


def attention_case(heads: int, kv: int, width: int, length: int, slots: int) -> tuple[Any, ...]:
    q = normal(2, heads, length, width)
    layer = LayerCache(
        keys=normal(2 * kv, slots, width, seed=1), values=normal(2 * kv, slots, width, seed=2)
    )
    return q, layer, jnp.asarray([0, slots - length], jnp.int32)


@pytest.mark.parametrize(
    ("scale", "cap", "window"), [(0.1, None, None), (0.5, 3.0, 7), (2.0, None, 1)]
)
@pytest.mark.parametrize(
    ("heads", "kv", "width"), [(3, 3, 16), (9, 3, 64), (2, 1, 80), (7, 1, 128)]
)
@pytest.mark.parametrize(("length", "slots"), [(1, 1), (1, 33), (5, 21), (40, 64)])
def test_attention_equals_numpy(heads, kv, width, length, slots, scale, cap, window):
    q, layer, start = attention_case(heads, kv, width, length, slots)
    found = attention(q, layer, start, scale=scale, cap=cap, window=window)
    expected = by_numpy(q, layer, start, scale, cap, window)
    np.testing.assert_allclose(found, expected, atol=4e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("window", [None, 5])
def test_a_query_has_the_same_bits_among_other_queries_and_slots(window, length):
    """One that is alone is a step of decoding, whose bits may differ from those of a prompt's."""
    q, layer, _ = attention_case(9, 3, 64, 40, 64)
    start = jnp.zeros(2, jnp.int32)

    def mixed(q: Any, layer: LayerCache, start: Any) -> np.ndarray:
        made = attention(q, layer, start, scale=0.125, cap=None, window=window)
        return np.asarray(made)

    parts = [slice(t, t + length) for t in (0, 1, 16, 33)]
    if length == 1:
        whole = np.concatenate([mixed(q[:, :, [t]], layer, start + t) for t in range(40)], axis=2)
    else:
        whole = mixed(q, layer, start)
    for part in parts:
        last = part.stop
        fewer = LayerCache(keys=layer.keys[:3, :last], values=layer.values[:3, :last])
        alone = mixed(q[:1, :, part], fewer, start[:1] + part.start)
        np.testing.assert_array_equal(alone, whole[:1, :, part])


@pytest.mark.parametrize("turning", [4, 16, 64])
@pytest.mark.parametrize("length", [1, 5, 40])
def test_queries_and_keys_turn_as_with_xla(length, turning):
    """Eight query heads, two key/value heads, and rows that begin at different positions."""
    tokens, start = normal(2, length, 12 * 64), jnp.asarray([3, 20], jnp.int32)
    cache = LayerCache(keys=normal(4, 64, 64, seed=1), values=normal(4, 64, 64, seed=2))
    angle = np.random.default_rng(3).uniform(0, 6, (2, 1, length, turning // 2))
    angle = jnp.asarray(np.concatenate([angle, angle], axis=-1), jnp.float32)
    turns = jnp.cos(angle), jnp.sin(angle)
    by_xla, expected = attend(tokens, turns, cache, start)
    with kernels.using("attention"):
        found, layer = attend(tokens, turns, cache, start)
    np.testing.assert_allclose(found, by_xla, atol=3e-6, rtol=0)
    np.testing.assert_allclose(layer.keys, expected.keys, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(layer.values, expected.values)


@pytest.mark.parametrize("start", [60, 61, 63, 100])
def test_tokens_that_would_pass_the_last_slot_are_moved_back(start):
    """As XLA's update of a slice does; what such rows read is of no interest."""
    tokens, place = normal(1, 4, 3 * 16), jnp.asarray([start], jnp.int32)
    cache = LayerCache(keys=normal(1, 64, 16, seed=1), values=normal(1, 64, 16, seed=2))
    _, expected = attend(tokens, None, cache, place)
    with kernels.using("attention"):
        _, found = attend(tokens, None, cache, place)
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_array_equal(found.values, expected.values)


def test_slots_that_no_query_sees_change_nothing():
    q, layer, start = attention_case(3, 1, 16, 2, 24)
    spoilt = LayerCache(
        keys=layer.keys.at[0, 2:].set(jnp.nan), values=layer.values.at[0, 2:].set(jnp.inf)
    )
    ways = [attention(q, c, start, scale=1.0, cap=None, window=None) for c in (layer, spoilt)]
    np.testing.assert_array_equal(*ways)


def test_a_poisoned_key_is_seen_in_the_row_that_reads_it_and_in_no_other():
    q, layer, start = attention_case(3, 1, 16, 1, 24)
    spoilt = LayerCache(keys=layer.keys.at[1, 3].set(jnp.nan), values=layer.values)
    found = np.asarray(attention(q, spoilt, start, scale=1.0, cap=None, window=None))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_they_are_used_where_they_are_asked_for_and_fit():
    x, kernel = normal(3, 40), normal(8, 40, seed=1)
    assert not kernels.fit("product", x)
    with kernels.using("product", "norm"):
        assert kernels.fit("product", x)
        assert not kernels.fit("product", x, x.astype(jnp.bfloat16))
        with kernels.using("norm"):
            assert not kernels.fit("product", x)
        np.testing.assert_array_equal(contract(x, kernel), kernels.product(x, kernel))
        np.testing.assert_allclose(total(x)[:, 0], np.asarray(x).sum(-1), atol=1e-5)
        onto = normal(3, 8, seed=2)
        np.testing.assert_array_equal(contract(x, kernel, None, onto), contract(x, kernel) + onto)
        scale, norm = normal(40, seed=3), RMSNorm(40, 1e-5, dtype=jnp.float32)
        norm.scale[...] = scale
        np.testing.assert_array_equal(norm(x), kernels.norm(x, scale, epsilon=1e-5, offset=0.0))


def test_bits_hold_where_every_part_of_the_network_fits():
    config = dataclasses.replace(read_config(CASES["llama"]), kernels="decoding", head_width=16)
    assert holds_bits(config)
    assert repr(config) == repr(dataclasses.replace(config, kernels=None))  # one model to a run
    for change in ({"kernels": None}, {"kernels": "short"}, {"head_width": 8}, {"quant": "int8"}):
        assert not holds_bits(dataclasses.replace(config, **change))


def test_whether_they_are_wanted(monkeypatch):
    monkeypatch.delenv(library.SWITCH)
    assert kernels.wanted(None)
    assert kernels.wanted(True)
    assert not kernels.wanted(False)
    monkeypatch.setenv(library.SWITCH, "off")
    assert not kernels.wanted(None)
    assert kernels.wanted(True)


@pytest.mark.parametrize(("word", "expected"), [("0", False), (" No ", False), ("true", True)])
def test_other_words_of_the_switch(monkeypatch, word, expected):
    monkeypatch.setenv(library.SWITCH, word)
    assert kernels.wanted(None) == expected


def test_a_switch_that_says_neither_is_named(monkeypatch):
    monkeypatch.setenv(library.SWITCH, "of")
    with pytest.raises(InvalidRequest, match='TOOLKIT_KERNELS is "off" or "on", got \'of\''):
        kernels.wanted(None)
    assert not kernels.wanted(False)


def test_words_are_no_answer_to_whether_a_model_uses_them(folder):
    with pytest.raises(InvalidRequest, match="`kernels` is True, False or None, got 'off'"):
        toolkit.load(folder, kernels="off")


@pytest.mark.parametrize(
    ("member", "files", "expected"),
    [
        ("0::/a/b", {}, 64),
        ("0::/a/b", {"a/b/cpu.max": "max 100000"}, 64),
        ("0::/a/b", {"a/b/cpu.max": "250000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("4:memory:/m\n2:cpu,cpuacct:/d", {"cpu/cpu.cfs_quota_us": "-1"}, 64),
        (
            "2:cpu,cpuacct:/d",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("0::/../b", {"cpu.max": "no number"}, 64),
    ],
)
def test_a_team_is_no_larger_than_a_containers_quota(
    monkeypatch, tmp_path, member, files, expected
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "member").write_text(member)
    monkeypatch.setattr(processor, "MEMBER", tmp_path / "member")
    monkeypatch.setattr(processor, "GROUPS", tmp_path)
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda pid: set(range(64)))
    assert processor.cores() == expected
    (tmp_path / "member").unlink()
    assert processor.cores() == 64


def test_asking_for_what_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(library, "COMPILER", "no_such_compiler")
    assert not kernels.wanted(None)
    with pytest.raises(UnsupportedModel, match=r"needs the extra \[kernels\]"):
        kernels.wanted(True)


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(library, "FLAGS", ("--no-such-flag",))
    with pytest.raises(UnsupportedModel, match="no-such-flag") as caught:
        library._compiled(tmp_path)
    assert library.SWITCH in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert "Compiling the kernels" in capfd.readouterr().err


def test_a_damaged_file_is_compiled_anew(monkeypatch, tmp_path):
    """A library that ends early would end the process when it is loaded."""
    monkeypatch.setattr(library, "_compile", lambda made, scratch: made.write_bytes(b"whole"))
    made = library._compiled(tmp_path)
    made.write_bytes(b"wh")
    assert library._compiled(tmp_path) == made and made.read_bytes() == b"whole"


def test_a_folder_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_libraries", [])
    (tmp_path / "kernels").write_text("a file")
    with pytest.raises(UnsupportedModel, match=r"kernels=False"):
        library.prepare(tmp_path / "kernels")


def test_the_compiled_file_is_named_after_what_decides_its_content(monkeypatch):
    names = {library._sum()}
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-g"))
    names.add(library._sum())
    monkeypatch.setattr(library, "processor", lambda: "another")
    names.add(library._sum())
    assert len(names) == 3


def test_half_precision_is_refused(folder):
    with pytest.raises(InvalidRequest, match="`kernels` True is for `dtype` float32"):
        toolkit.load(folder, kernels=True, dtype="bfloat16")


def test_a_model_does_without_them_where_the_compiler_fails(monkeypatch, folder):
    def fails(place: object) -> None:
        raise UnsupportedModel("no compiler today")

    monkeypatch.delenv(library.SWITCH)
    monkeypatch.setattr(kernels, "prepare", fails)
    with pytest.warns(UserWarning, match="no compiler today"), toolkit.load(folder) as lm:
        assert not lm.engine.config.kernels
    with pytest.raises(UnsupportedModel, match="no compiler today"):
        toolkit.load(folder, kernels=True)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_strict_mode_holds_with_8_bit_weights(folder, compiled):
    """Prompts that are computed in groups, packed, continued and in chunks."""
    with toolkit.load(folder, strict=True, quant="int8", kernels=compiled) as lm:

        def drawn(number: int) -> list[tuple[int, float]]:
            prompt = f"Number {number % 7} is" + " and so on" * (number * number)
            answer = lm.complete(prompt, seed=7, max_tokens=5, logprobs=5, prompt_logprobs=1)
            return [(token.id, token.logprob) for token in answer.record.choices[0].tokens]

        alone = []
        for number in range(14):
            lm.engine.forget_prompts()
            alone.append(drawn(number))
        lm.engine.forget_prompts()
        with concurrent.futures.ThreadPoolExecutor(14) as threads:
            assert list(threads.map(drawn, range(14))) == alone
