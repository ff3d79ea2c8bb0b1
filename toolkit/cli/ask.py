"""The verbs that ask a model: `complete` and `demo`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

PROMPTS = ("The capital of France is", "Water boils at", "def fibonacci(n):\n")

Model = Annotated[str | None, typer.Option(help="Folder, .gguf file or hub id; default embedded.")]


def complete(
    prompt: Annotated[str, typer.Argument(help="The text to complete.")],
    model: Model = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens to generate.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Mass of the nucleus.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Most probable tokens; 0 is all.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Share of the top probability.")] = None,
    n: Annotated[int | None, typer.Option(help="Choices.")] = None,
    best_of: Annotated[int | None, typer.Option(help="Candidates for the choices.")] = None,
    seed: Annotated[int | None, typer.Option(help="Any 64-bit integer.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text.")] = None,
    choice: Annotated[list[str] | None, typer.Option(help="Answer with one of these.")] = None,
    logprobs: Annotated[int | None, typer.Option(help="Alternatives for each token.")] = None,
    echo: Annotated[bool, typer.Option(help="Put the prompt in front.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer.")] = False,
) -> None:
    """Complete a prompt and print the text as it comes."""
    import toolkit

    parameters: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "n": n,
        "best_of": best_of,
        "seed": seed,
        "stop": stop or None,
        "guided_choice": choice or None,
        "logprobs": logprobs,
        "echo": echo,
    }
    with toolkit.load(model) as lm:
        if as_json or (n or 1) > 1 or best_of:
            answer = lm.complete(prompt, **parameters)
            if as_json:
                print(json.dumps(answer, ensure_ascii=False, indent=2))
            else:
                print("\n".join(c["text"] for c in answer["choices"]))
        else:
            _print_stream(lm.stream(prompt, **parameters))


def demo(model: Model = None) -> None:
    """Complete a few prompts and show what is known about each token."""
    import toolkit

    began = time.perf_counter()
    with toolkit.load(model) as lm:
        print(f"{lm.name} loaded in {time.perf_counter() - began:.1f} s\n")
        for prompt in PROMPTS:
            print(f"\033[1m{prompt}\033[0m" if sys.stdout.isatty() else prompt, end="", flush=True)
            _print_stream(lm.stream(prompt, max_tokens=24, temperature=0))
            print()
        answer = lm.complete(
            PROMPTS[0], max_tokens=8, temperature=0.8, seed=7, logprobs=3, details=True
        )
        _print_tokens(answer.record.choices[0].tokens)
        usage, timings = answer.record.usage, answer.record.timings
        print(
            f"\n{usage.completion_tokens} tokens, {timings.tokens_per_second or 0:.1f} tokens/s, "
            f"seed {answer.record.seed}: the same seed draws the same tokens."
        )
    print("\nNext: the ten lines of Python in README.md, in a terminal or in a notebook:")
    print("  .venv/bin/jupyter lab")


def _print_stream(chunks: Any) -> None:
    for chunk in chunks:
        for choice in chunk["choices"]:
            print(choice["text"], end="", flush=True)
    print()


def _print_tokens(tokens: Sequence[Any]) -> None:
    """A table of drawn tokens: own logprob, probability and rank, and the two best alternatives."""
    import math

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{PROMPTS[0]!r} at temperature 0.8, token by token")
    for name in ("token", "logprob", "probability", "rank", "alternatives"):
        table.add_column(name, justify="left" if name in ("token", "alternatives") else "right")
    for token in tokens:
        others = [a for a in token.top if a.id != token.id][:2]
        table.add_row(
            repr(token.bytes.decode(errors="replace")),
            f"{token.logprob:.3f}",
            f"{math.exp(token.logprob):.1%}",
            str(token.rank),
            "  ".join(
                f"{a.bytes.decode(errors='replace')!r} {math.exp(a.logprob):.1%}" for a in others
            ),
        )
    Console().print(table)
