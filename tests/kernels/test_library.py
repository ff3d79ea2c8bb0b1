"""When the compiled kernels are used, how they are compiled, and what is said where they cannot
be."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import toolkit
from tests.kernels.test_kernels import normal
from tests.models.tiny_families import CASES
from toolkit import kernels
from toolkit.errors import InvalidRequest, UnsupportedModel
from toolkit.kernels import library, processor
from toolkit.models.block import Block
from toolkit.models.decoder import holds_bits
from toolkit.models.families import read_config
from toolkit.models.layers import RMSNorm, contract, total

pytest.importorskip("ziglang", reason="needs the extra [kernels]")


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


@pytest.mark.parametrize(("activation", "used"), [("silu", True), ("gelu_tanh", False)])
def test_the_gate_of_an_mlp_has_a_kernel_if_it_is_silu(activation, used):
    config = dataclasses.replace(read_config(CASES["llama"]), activation=activation)
    block = Block(config, config.kind(0), rngs=nnx.Rngs(0), dtype=jnp.float32)
    x = normal(2, 3, config.width)
    with kernels.using("gated"):
        found, program = block.inner(x), str(jax.make_jaxpr(block.inner)(x))
    assert ("toolkit_gate" in program) == used
    np.testing.assert_allclose(found, block.inner(x), rtol=1e-5, atol=1e-6)


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
