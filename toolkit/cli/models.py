"""The verbs about models: `models` and `quality`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def models() -> None:
    """List the model families that are supported, by `model_type` of config.json and by
    `general.architecture` of GGUF files."""
    from toolkit.models import DEFAULT
    from toolkit.models.families import FAMILIES, family
    from toolkit.models.gguf import architectures_of

    width = max(map(len, FAMILIES))
    for kind, name in FAMILIES.items():
        module = family(name)
        about = (module.__doc__ or "").split("\n\n")[0]
        gguf = ", ".join(architectures_of(kind)) or "none"
        print(f"{kind:{width}}  {module.ARCHITECTURE}; GGUF: {gguf}")
        print(f"{'':{width}}  {' '.join(about.split())}")
    print(f"\nEmbedded, and loaded when no model is named: {DEFAULT}")


def quality(
    model: Annotated[
        str | None, typer.Argument(help="Folder, .gguf file or hub id; default embedded.")
    ] = None,
    quant: Annotated[str | None, typer.Option(help='"int8".')] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    text: Annotated[
        Path | None, typer.Option(help="Text to score; default a page of its own.", exists=True)
    ] = None,
) -> None:
    """Say what a precision costs: perplexity and divergence from float32 on a text."""
    from toolkit.completion.quality import quality as measure

    given = None if text is None else text.read_text(encoding="utf-8")
    found = measure(model, quant=quant, dtype=dtype, text=given)
    change = found.perplexity / found.reference_perplexity - 1
    print(f"tokens scored          {found.tokens}")
    print(f"perplexity in float32  {found.reference_perplexity:.4f}")
    print(f"perplexity             {found.perplexity:.4f}  ({change:+.2%})")
    print(f"KL from float32        {found.kl:.6f} nats a token, {found.kl_worst:.4f} at worst")
    print(f"same best token        {found.agreement:.2%}")
