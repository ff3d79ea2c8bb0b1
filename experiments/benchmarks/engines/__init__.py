"""The engines that are compared. Each module here runs in a worker of its own; see `worker`."""

from __future__ import annotations

OURS, HUGGING_FACE, LLAMA = "toolkit", "transformers", "llama-cpp-python"

MODULES = {OURS: "ours", HUGGING_FACE: "huggingface", LLAMA: "llamacpp"}
"""Engine -> its module."""

PACKAGES = {
    OURS: ("jax", "jaxlib", "flax", "numpy"),
    HUGGING_FACE: ("transformers", "torch"),
    LLAMA: ("llama-cpp-python",),
}
"""Engine -> the packages whose versions belong to its figures."""
