"""The `toolkit` command and its verbs."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import ToolkitError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Text completion with exact log-probabilities."
)

PROMPTS = ("The capital of France is", "Water boils at", "def fibonacci(n):\n")

Model = Annotated[str | None, typer.Option(help="Folder, .gguf file or hub id; default embedded.")]


@app.command()
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


@app.command()
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


@app.command()
def serve(
    model: Annotated[
        list[str] | None, typer.Option(help="Folder, .gguf file or hub id; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8321,
    max_queue: Annotated[int, typer.Option(help="Sequences that may wait; then 429.")] = 256,
    max_batch: Annotated[int, typer.Option(help="Sequences that run together.")] = 64,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A key a line; or set TOOLKIT_API_KEY.", exists=True)
    ] = None,
    top_logprobs: Annotated[int, typer.Option(help="Most alternatives a token.")] = 20,
    ignore_unknown_fields: Annotated[
        bool, typer.Option(help="The legacy route drops unknown fields.")
    ] = False,
    rate_limit: Annotated[str | None, typer.Option(help='A client\'s, as "60/minute".')] = None,
    request_timeout: Annotated[float, typer.Option(help="Seconds a completion may take.")] = 600,
    strict_done: Annotated[bool, typer.Option(help="Strict streams end with [DONE].")] = True,
) -> None:
    """Answer over HTTP until Ctrl-C."""
    import contextlib
    import logging

    import toolkit
    from toolkit.server.serve import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("waitress").setLevel(logging.ERROR)
    keys = _api_keys(api_key_file)
    if not keys and host not in ("127.0.0.1", "::1", "localhost"):
        logging.warning("%s may be reached by other machines and wants no key", host)
    limits = toolkit.Limits(max_logprobs=top_logprobs)
    with contextlib.ExitStack() as stack:
        lms = []
        for name in model or [None]:
            lms.append(stack.enter_context(toolkit.load(name, max_batch=max_batch, limits=limits)))
            lms[-1].engine.max_waiting = max_queue
        try:
            server = toolkit.serve(
                lms,
                host=host,
                port=port,
                max_requests=min(len(lms) * (max_batch + max_queue), 512),
                api_keys=keys,
                rate_limit=rate_limit,
                request_timeout=request_timeout,
                ignore_unknown_fields=ignore_unknown_fields,
                strict_done=strict_done,
            )
        except (ValueError, OSError) as error:
            raise typer.BadParameter(str(error)) from None
        names = ", ".join(lm.name for lm in lms)
        print(f"{names} at {server.url}/v1 and {server.url}/v1/openai/v1", flush=True)
        run(server)


def _api_keys(file: Path | None) -> list[str]:
    """The keys that clients must send: the lines of a file and TOOLKIT_API_KEY."""
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    keys = [line.strip() for line in [*lines, os.environ.get("TOOLKIT_API_KEY", "")]]
    keys = [key for key in keys if key]
    if file and not keys:
        raise typer.BadParameter(f"{file} holds no key. Write one on a line of its own.")
    return keys


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


def main() -> None:
    """Run the command; our own errors become one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that cannot show a character shows "?"
            stream.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except ToolkitError as error:
        print(f"{type(error).__name__}: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None
