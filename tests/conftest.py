"""What all tests share: platform, strictness, checked annotations, the model, the specification."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything imports JAX. TOOLKIT_TEST_PLATFORM=cuda runs the same tests on an accelerator.
os.environ["JAX_PLATFORMS"] = os.environ.get("TOOLKIT_TEST_PLATFORM", "cpu")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# What everybody has; tests of the kernels ask for them.
os.environ["TOOLKIT_KERNELS"] = "off"

import hypothesis
import jax
import jsonschema
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

SPECIFICATION = Path(__file__).parents[1] / "docs/spec/completions-endpoint.openapi.json"

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("toolkit", derandomize=True, deadline=None)
hypothesis.settings.load_profile("toolkit")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the annotations of `function`, shapes and dtypes included, on each call.

    Not those of `__init__`: JAX rebuilds dataclasses with shapes, specs and sentinels for leaves.
    """
    if function.__name__ == "__init__":
        return function
    # The tower of PEP 484: an int will do where a float is asked for.
    return beartype(function, conf=BeartypeConf(is_pep484_tower=True))


# The rooms with arrays. Looking for shapes would double the time of code that has none.
install_import_hook(["toolkit.models", "toolkit.sampling", "toolkit.engine"], f"{__name__}.checked")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs between runs, in pytest's own cache: `--cache-clear` drops them."""
    if cache := getattr(config, "cache", None):  # none with `-p no:cacheprovider`
        jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("jax")))
        # Most programs here take less than the default's 1 s to compile, and many are compiled.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def room_for_programs() -> Iterator[None]:
    """What thousands of tests compile would take all areas of memory that a process may have."""
    from toolkit.engine import programs

    yield
    if programs.crowded():
        programs.drop_programs()


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """The completions operation of the specification: request body, responses, errors."""
    document = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    return document["paths"]["/v1/openai/v1/completions"]["post"]


@pytest.fixture(scope="session", autouse=True)
def every_response_validates(specification: dict[str, Any]) -> Iterator[None]:
    """What the strict serialiser returns, in any test, fits the specification's response schema.

    It is validated as a client would read it: written as JSON without NaN and parsed again.
    """
    from toolkit.completion import response

    schema = specification["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator(schema)
    strict = response.strict

    @functools.wraps(strict)
    def validated(*args: Any, **kwargs: Any) -> Any:
        answer = strict(*args, **kwargs)
        validator.validate(json.loads(json.dumps(answer, allow_nan=False)))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            # Importers too: `from ...response import strict` has bound the original.
            if name.split(".")[0] in ("toolkit", "tests") and vars(module).get("strict") is strict:
                patch.setattr(module, "strict", validated)
        yield


@pytest.fixture(scope="session")
def folder() -> Path:
    """The prepared folder of the embedded model, fetched on first use."""
    from toolkit.models import catalog

    return catalog.resolve()


@pytest.fixture(scope="session")
def lm() -> Iterator[Any]:
    """The embedded model, loaded and compiled once for the session."""
    import toolkit

    model = toolkit.load()
    yield model
    model.close()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also in a worker of pytest-xdist, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
