"""The verbs that examine targets: `probe` and `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

KeyFile = Annotated[Path | None, typer.Option(help="A file with the key to send.", exists=True)]


def probe(
    url: Annotated[str, typer.Argument(help="Base address, such as http://127.0.0.1:8000/v1.")],
    model: Annotated[str | None, typer.Option(help="Its name there; default the only one.")] = None,
    key_file: KeyFile = None,
    prompt: Annotated[
        str | None, typer.Option(help="One that leaves the model a choice of first words.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds one answer may take.")] = 600,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Find out what a server means by the fields it takes."""
    import toolkit

    with toolkit.Remote(url, model=model, api_key=_key(key_file), timeout=timeout) as target:
        found = toolkit.probe(target, prompt=prompt)
    print(json.dumps(found.to_json(), ensure_ascii=False, indent=2) if as_json else found)


def compare(
    a: Annotated[str, typer.Argument(help="An address, a run folder, or a model as in serve.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    model_a: Annotated[str | None, typer.Option(help="Its name at address A.")] = None,
    model_b: Annotated[str | None, typer.Option(help="Its name at address B.")] = None,
    key_file_a: KeyFile = None,
    key_file_b: KeyFile = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text, a prompt a line; default a dozen.", exists=True)
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Of greedy texts.")] = 32,
    samples: Annotated[int, typer.Option(help="Completions drawn a prompt.")] = 24,
    alpha: Annotated[float, typer.Option(help="Probability of any false alarm.")] = 0.001,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as HTML.")] = None,
    exit_code: Annotated[bool, typer.Option(help="End with status 1 if they differ.")] = False,
) -> None:
    """Say whether two servers, models or runs differ, and why."""
    import contextlib

    import toolkit
    from toolkit.experiments.compare import report

    with contextlib.ExitStack() as stack:
        one = _side(stack, a, model_a, _key(key_file_a))
        other = _side(stack, b, model_b, _key(key_file_b))
        lines = prompts.read_text(encoding="utf-8").splitlines() if prompts else None
        found = toolkit.compare(
            one,
            other,
            [line for line in lines if line] if lines is not None else None,
            max_tokens=max_tokens,
            samples=samples,
            alpha=alpha,
        )
    print(found)
    if out is not None:
        out.write_text(report.page(found), encoding="utf-8")
    if exit_code and not found.same:
        raise typer.Exit(1)


def _side(stack: Any, what: str, model: str | None, key: str | None) -> Any:
    """A server by its address, a run by its folder, else a model that is loaded for the purpose."""
    import toolkit
    from toolkit.experiments import store

    if what.startswith(("http://", "https://")):
        return stack.enter_context(toolkit.Remote(what, model=model, api_key=key))
    if (Path(what) / store.CONFIG).exists():
        return toolkit.open_run(what)
    return stack.enter_context(toolkit.load(what))


def _key(file: Path | None) -> str | None:
    return file.read_text(encoding="utf-8").strip() if file else None
