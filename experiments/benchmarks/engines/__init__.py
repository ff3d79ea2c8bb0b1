"""The engines that are compared. Each module here runs in a worker of its own; see `worker`."""

from __future__ import annotations

OURS, HUGGING_FACE, LLAMA, NAIVE = "toolkit", "transformers", "llama-cpp-python", "naive JAX loop"
OURS_MODES, OURS_INT8, OURS_PARTS = f"{OURS} in one process", f"{OURS}, int8", f"{OURS}, a step"
OURS_XLA = f"{OURS}, no kernels"
DEVICE, HUGGING_FACE_DEVICE = f"{OURS}, the engine", f"{HUGGING_FACE}, static cache"
"""On an accelerator."""
SERVED, SERVED_LLAMA = f"{OURS} serve", f"{LLAMA}'s server"
SERVED_HF = f"{HUGGING_FACE} serve"
"""Asked over HTTP."""

MODULES = {
    OURS: "ours",
    OURS_MODES: "ours_modes",
    OURS_INT8: "ours_int8",
    OURS_PARTS: "ours_parts",
    OURS_XLA: "ours_xla",
    HUGGING_FACE: "huggingface",
    LLAMA: "llamacpp",
    NAIVE: "naive",
    DEVICE: "device",
    HUGGING_FACE_DEVICE: "huggingface_device",
    SERVED: "served",
    SERVED_LLAMA: "served_llamacpp",
    SERVED_HF: "served_huggingface",
}
"""Engine -> its module."""

HOME = (OURS, OURS_MODES, OURS_INT8, OURS_PARTS, OURS_XLA, NAIVE, DEVICE, SERVED)
"""Engines that run in the project's own environment."""

PACKAGES = {
    OURS: ("jax", "jaxlib", "flax", "numpy", "ziglang"),
    HUGGING_FACE: ("transformers", "torch"),
    LLAMA: ("llama-cpp-python",),
}
"""Engine -> the packages whose versions belong to its figures."""
