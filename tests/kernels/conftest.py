"""All tests here run the compiled kernels."""

from __future__ import annotations

import pytest

from toolkit import kernels

pytest.importorskip("ziglang", reason="needs the extra [kernels]")


@pytest.fixture(scope="session", autouse=True)
def prepared(pytestconfig: pytest.Config) -> None:
    """Compile them, once for many runs of the tests."""
    cache = pytestconfig.cache
    assert cache is not None
    kernels.prepare(cache.mkdir("kernels"))
