"""Whole completions of the embedded model against Hugging Face with PyTorch, in float32."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

torch = pytest.importorskip("torch", reason="`make test-parity` installs it")

from transformers import LlamaForCausalLM  # noqa: E402

pytestmark = pytest.mark.parity

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village,",
    "def quicksort(items):",
    "Water boils at a temperature of",
    "The three laws of motion are",
    "Dear Sir or Madam,",
    "In 1969, the first humans",
    "Photosynthesis is the process by which",
    "To make a good cup of tea,",
    "The mitochondria",
    "A haiku about autumn:\n",
    "1, 1, 2, 3, 5, 8,",
    "Q: What is the largest planet?\nA:",
    "La capitale de l'Italie est",
    "SELECT name FROM users WHERE",
    "The quick brown fox",
    "Shakespeare wrote",
    "import numpy as np\n\n",
    "Once the rain had stopped, she",
    "The difference between a virus and a bacterium is",
)
NEW = 64
GAP = 1e-3
"""Two logits nearer than this are a tie that rounding decides."""


@pytest.fixture(scope="module")
def peer(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def logits_of(peer, ids):
    with torch.no_grad():
        return peer(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_that_of_hugging_face(lm, peer, prompt):
    """Equal tokens; where they part, Hugging Face's own two logits are less than 1e-3 apart."""
    record = lm.complete(prompt, max_tokens=NEW, temperature=0).record
    ids, ours = list(record.prompts[0]), [t.id for t in record.choices[0].tokens]
    with torch.no_grad():
        out = peer.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
        )
    theirs = out[0, len(ids) :].tolist()
    if ours == theirs:
        return
    step = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    logits = logits_of(peer, ids + theirs[:step])[-1]
    assert abs(logits[ours[step]] - logits[theirs[step]]) < GAP


def test_logprobs_of_drawn_tokens_and_alternatives(lm, peer):
    """Tempered, truncated and penalised draws are still reported under the model's distribution."""
    answer = lm.complete(
        list(PROMPTS[:4]),
        max_tokens=24,
        seed=3,
        temperature=1.3,
        top_p=0.95,
        frequency_penalty=0.5,
        logprobs=5,
        details=True,
    )
    for choice in answer.record.choices:
        prompt = list(answer.record.prompts[choice.prompt_index])
        drawn = [t.id for t in choice.tokens]
        reference = log_softmax(logits_of(peer, prompt + drawn).astype(np.float64), axis=-1)
        for i, token in enumerate(choice.tokens):
            row = reference[len(prompt) + i - 1]
            assert token.logprob == pytest.approx(row[token.id], abs=1e-3)
            assert token.rank == 1 + int((row > row[token.id]).sum())
            assert token.entropy == pytest.approx(-(np.exp(row) * row).sum(), abs=1e-3)
            best = np.argsort(-row, kind="stable")[:5]
            values = [a.logprob for a in token.top]
            np.testing.assert_allclose(values, row[best], atol=1e-3)


def test_echo_and_prompt_logprobs(lm, peer):
    text = "Knowledge is power, and the pen is mightier than the sword. " * 6
    answer = lm.complete(text, echo=True, logprobs=2, prompt_logprobs=3, max_tokens=2, seed=1)
    (choice,), (prompt,) = answer.record.choices, answer.record.prompts
    reference = log_softmax(logits_of(peer, list(prompt)).astype(np.float64), axis=-1)
    assert len(choice.prompt_tokens) == len(prompt) > 70
    assert choice.prompt_tokens[0].logprob is None
    for i, token in enumerate(choice.prompt_tokens[1:]):
        assert token.logprob == pytest.approx(reference[i, token.id], abs=1e-3)
    scored = lm.score(text)[0]
    own = sum(reference[i, t] for i, t in enumerate(prompt[1:]))
    assert scored.logprob == pytest.approx(own, abs=1e-3 * len(prompt))
