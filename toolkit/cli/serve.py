"""The verb `serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    model: Annotated[
        list[str] | None, typer.Option(help="Folder, .gguf file or hub id; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8321,
    max_queue: Annotated[int, typer.Option(help="Sequences that may wait; then 429.", min=1)] = 256,
    max_batch: Annotated[int, typer.Option(help="Sequences that run together.", min=1)] = 64,
    mesh: Annotated[
        str | None, typer.Option(help="Devices to divide it among, as data=2,model=4.")
    ] = None,
    warm_up: Annotated[
        str | None, typer.Option(help="Compile first what ROWSxTOKENS need, as 16x512.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="The same bits whatever runs beside.")] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="A key a line; or set TOOLKIT_API_KEY.", exists=True, dir_okay=False),
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
    _check(api_keys=keys, rate_limit=rate_limit, request_timeout=request_timeout)
    if not keys and host not in ("127.0.0.1", "::1", "localhost"):
        logging.warning("%s may be reached by other machines and wants no key", host)
    limits, sizes = toolkit.Limits(max_logprobs=top_logprobs), sizes_of(mesh)
    ahead = extent_of(warm_up)
    with contextlib.ExitStack() as stack:
        lms = [
            stack.enter_context(
                toolkit.load(
                    name,
                    max_batch=max_batch,
                    max_waiting=max_queue,
                    strict=strict,
                    limits=limits,
                    mesh=sizes,
                )
            )
            for name in model or [None]
        ]
        if ahead is not None:
            try:
                for lm in lms:
                    lm.warm_up(*ahead)
            except toolkit.InvalidRequest as error:
                raise typer.BadParameter(f"`--warm-up {warm_up}`: {error}") from None
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


def sizes_of(mesh: str | None) -> dict[str, int] | None:
    """`data=2,model=4` as a dict."""
    if mesh is None:
        return None
    try:
        return {axis: int(size) for axis, size in (p.split("=") for p in mesh.split(","))}
    except ValueError:
        raise typer.BadParameter(f"`--mesh` must be as data=2,model=4, got {mesh!r}.") from None


def extent_of(warm_up: str | None) -> tuple[int, int] | None:
    """`16x512` as rows and tokens."""
    if warm_up is None:
        return None
    rows, _, tokens = warm_up.partition("x")
    if not (rows.isdecimal() and tokens.isdecimal()):
        raise typer.BadParameter(f"`--warm-up` must be ROWSxTOKENS, as 16x512, got {warm_up!r}.")
    return int(rows), int(tokens)


def _api_keys(file: Path | None) -> list[str]:
    """The keys that clients must send: the lines of a file and TOOLKIT_API_KEY."""
    lines = _lines(file) if file else []
    keys = [line.strip(" \t\r\n") for line in [*lines, os.environ.get("TOOLKIT_API_KEY", "")]]
    keys = [key for key in keys if key]
    if file and not keys:
        raise typer.BadParameter(f"{file} holds no key. Write one on a line of its own.")
    return keys


def _lines(file: Path) -> list[str]:
    """The lines of a text, which some editors begin with a byte-order mark."""
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not in UTF-8. Save it as UTF-8 text.") from None
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}.") from None


def _check(**options: Any) -> None:
    """What makes no sense is said before a model is loaded."""
    from toolkit.server.options import check_options

    try:
        check_options(**options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
