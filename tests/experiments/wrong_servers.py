"""Eight servers that are each wrong in one way, and two that are right: toys with printable text.

The toy's logits depend on the last token only and are normal numbers over nineteen printable
characters, so that every setting leaves several tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, request

import toolkit
from tests.oracle.toy import ToyVocabulary, write_toy
from toolkit.completion.complete import LM
from toolkit.errors import ToolkitError
from toolkit.experiments import faults
from toolkit.experiments.target import Streaming, Target
from toolkit.server.serve import Server

CHARACTERS = "abcdefghijklmnop ,."
VOCABULARY = ToyVocabulary()
CONTEXT, ROWS = 512, 8
PROMPTS = ("a cab on", "deck, g", "he ha", "i am a", "nil,", "oh no.")


def table(seed: int, *, scale: float = 1.5, end: float = -1.0) -> np.ndarray:
    """Logits after each token: `[V, V]`. `end` is that of the end of text."""
    rng = np.random.default_rng(seed)
    rows = np.full((VOCABULARY.size, VOCABULARY.size), -30.0, np.float32)
    usual = [ord(character) for character in CHARACTERS]
    rows[:, usual] = rng.normal(size=(VOCABULARY.size, len(usual))) * scale
    rows[:, VOCABULARY.eos_id] = end
    return rows


def load(folder: Path, seed: int = 1, **changes: Any) -> LM:
    """The toy of a seed, loaded in strict mode: the same bits alone and in a batch."""
    write_toy(folder, table(seed, **changes), VOCABULARY, context=CONTEXT)
    lm = toolkit.load(folder, max_batch=ROWS, strict=True)
    lm.name = "toy"  # the folder has another one each time
    return lm


Fault = Callable[[Any], Any]
WRONG: dict[str, Fault] = {
    "scaled logprobs": faults.scaled_logprobs,
    "bos": faults.bos_added,
    "offsets": faults.byte_offsets,
    "top_p": faults.top_p_off_by_one,
    "penalties": faults.penalties_count_prompt,
    "seed": faults.seed_ignored,
}
"""The cause that a comparison must name, and the fault. The other two are loaded models."""


def served(target: Target) -> Server:
    """Any target behind HTTP, on the legacy route."""
    app = Flask(__name__)

    @app.post("/v1/completions")
    def completions() -> Any:
        fields = dict(request.get_json())
        fields.pop("model", None)
        try:
            if fields.pop("stream", False):
                return _events(target, fields)
            return target.complete(fields).body
        except ToolkitError as error:
            return {"error": {"message": error.message}}, 400

    @app.get("/v1/models")
    def models() -> Any:
        return {"data": [{"id": "toy"}]}

    @app.post("/tokenize")
    def tokenize() -> Any:
        return {"tokens": target.tokenize(request.get_json()["prompt"])}

    return Server(app, host="127.0.0.1", port=0, max_requests=16)


def _events(target: Target, fields: dict[str, Any]) -> Response:
    assert isinstance(target, Streaming)
    chunks = [f"data: {json.dumps(chunk)}\n\n" for chunk in target.stream(fields).chunks]
    return Response([*chunks, "data: [DONE]\n\n"], content_type="text/event-stream")
