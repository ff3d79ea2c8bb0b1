"""Peak memory of the host while a model is loaded: each weight is there once, and little else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.models.tiny import CONFIG
from toolkit.models.families import read_config, weight_parts

ROOT = Path(__file__).parents[2]
MEASURE = """
import json, re, sys
import jax, jax.numpy as jnp
from flax import nnx
from toolkit.models import checkpoint, decoder
from toolkit.models.sharding import Split

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

folder, dtype, mesh = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
jax.devices()
before = peak()
split = Split.of(checkpoint.load_config(folder), mesh)
made = checkpoint.load(folder, dtype=jnp.dtype(dtype), split=split)
leaves = jax.tree.leaves(nnx.state(made))
held = {s.data.unsafe_buffer_pointer(): s.data.nbytes for x in leaves for s in x.addressable_shards}
print(json.dumps([sum(held.values()), peak() - before]))
"""
FACTOR = 1.3
EIGHT: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
"""Llama 3's eight thousand million weights, but for 30 of the 32 layers: 3 GB."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="peak memory is Linux's"
)


def measured(folder: Path, dtype: str, mesh: Mapping[str, int]) -> tuple[int, int]:
    """Bytes that the weights take, and by how much loading them raised the peak, in a process of
    its own."""
    devices = int(np.prod(list(mesh.values()), initial=1))
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-c", MEASURE, str(folder), dtype, json.dumps(mesh)]
    said = subprocess.check_output(
        command, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    )
    size, grown = json.loads(said)
    return size, grown


def test_the_embedded_model_loads_without_a_second_copy(folder):
    size, grown = measured(folder, "float32", {})
    assert size == pytest.approx(538e6, rel=0.01)
    assert grown < FACTOR * size


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of several files with EIGHT's sizes, removed at the end."""
    folder = tmp_path_factory.mktemp("eight")
    parts = weight_parts(read_config(CONFIG | EIGHT))
    shapes = {part.name: part.shape for group in parts.values() for part in group}
    some = np.random.default_rng(0).standard_normal(2**20, np.float32).astype(ml_dtypes.bfloat16)
    places = {}
    for number, (name, shape) in enumerate(shapes.items()):
        file = f"model-{number + 1:05}-of-{len(shapes):05}.safetensors"
        save_file({name: np.resize(some, shape)}, folder / file)
        places[name] = file
    (folder / "config.json").write_text(json.dumps(CONFIG | EIGHT))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{}, {"model": 4}, {"data": 2, "model": 2}], ids=str)
def test_a_large_checkpoint_goes_straight_to_its_devices(eight, mesh):
    size, grown = measured(eight, "bfloat16", mesh)
    assert size > 2.9e9
    assert grown < FACTOR * size
