"""What a precision costs, measured on logits that are known."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracle.toy import toy_decoder
from toolkit.completion.quality import compared, shipped_text

HALVES = np.log(np.asarray([[0.5, 0.5], [0.5, 0.5]], np.float32))
SKEWED = np.log(np.asarray([[0.8, 0.2], [0.2, 0.8]], np.float32))


def test_a_model_beside_itself():
    found = compared(toy_decoder(SKEWED), toy_decoder(SKEWED), [0, 0, 1, 1], dtype=jnp.float32)
    assert (found.tokens, found.kl, found.kl_worst, found.agreement) == (3, 0.0, 0.0, 1.0)
    # Probabilities of the successors: 0.8, 0.2, 0.8.
    expected = (0.8 * 0.2 * 0.8) ** (-1 / 3)
    assert found.perplexity == found.reference_perplexity == pytest.approx(expected, rel=1e-5)


def test_perplexity_and_divergence_by_hand():
    found = compared(toy_decoder(HALVES), toy_decoder(SKEWED), [0, 0, 1, 1], dtype=jnp.float32)
    assert found.reference_perplexity == pytest.approx(2.0, rel=1e-5)
    divergence = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert found.kl == pytest.approx(divergence, rel=1e-5)
    assert found.kl_worst == pytest.approx(divergence, rel=1e-5)


def test_a_text_longer_than_a_window_is_scored_in_pieces():
    """65 tokens in windows of 64, the toy's context: 63 and nothing."""
    ids = [0] * 65
    assert compared(toy_decoder(SKEWED), toy_decoder(SKEWED), ids, dtype=jnp.float32).tokens == 63


def test_the_shipped_text():
    text = shipped_text()
    assert text.startswith("The harbour wakes")
    assert len(text.split()) > 500
