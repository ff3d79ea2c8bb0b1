"""A fresh process that says what it has reached: imports, a loaded model, the first two tokens.

    python -m experiments.benchmarks.scenarios.first_token toolkit '{"model": null, ...}'

Each engine is used as the first example of its documentation does, with streamed text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS

PROMPT = "The capital of France is"
NEW = 8


def ours(*, model: str | None, **others: Any) -> Iterator[str]:
    """The toolkit."""
    import toolkit

    load = toolkit.load
    yield "imported"
    lm = load(model)
    yield "loaded"
    for _ in lm.stream(PROMPT, max_tokens=NEW, temperature=0, ignore_eos=True):
        yield "token"


def huggingface(*, folder: str, threads: int, **others: Any) -> Iterator[str]:
    """transformers on PyTorch."""
    from threading import Thread

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

    torch.set_num_threads(threads)
    yield "imported"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    yield "loaded"
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    thread = Thread(target=model.generate, kwargs={**inputs, **settings, "streamer": streamer})
    thread.start()
    for _ in streamer:
        yield "token"
    thread.join()


def llamacpp(*, gguf: str, threads: int, **others: Any) -> Iterator[str]:
    """llama-cpp-python."""
    from llama_cpp import Llama

    yield "imported"
    llama = Llama(gguf, n_threads=threads, n_threads_batch=threads, verbose=False)
    yield "loaded"
    for _ in llama.create_completion(PROMPT, max_tokens=NEW, temperature=0, stream=True):
        yield "token"


PLAYERS = {OURS: ours, HUGGING_FACE: huggingface, LLAMA: llamacpp}

if __name__ == "__main__":
    for reached in PLAYERS[sys.argv[1]](**json.loads(sys.argv[2])):
        print(reached, flush=True)
