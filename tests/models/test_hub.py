"""Hub ids, against a small server that speaks what a download needs of the hub's HTTP API."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from tests.models.tiny import write_folder
from toolkit.errors import FetchError, UnsupportedModel
from toolkit.models import load, resolve

COMMIT = "c0ffee" + "0" * 34


class Hub(BaseHTTPRequestHandler):
    """Serves `server.files` as the model tiny/llama; keeps the paths that were asked for."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, *, body):
        files, path = self.server.files, self.path.split("?")[0]
        self.server.asked.append(path)
        root = f"/tiny/llama/resolve/{COMMIT}/"
        if path.startswith("/api/models/tiny/llama/tree/"):
            self.send([self.entry(n, c) for n, c in files.items()], body)
        elif path.startswith("/api/models/tiny/llama"):
            siblings = [{"rfilename": name} for name in files]
            about = {"id": "tiny/llama", "sha": COMMIT, "siblings": siblings}
            self.send(about, body)
        elif path.startswith(root) and path.removeprefix(root) in files:
            self.send(files[path.removeprefix(root)], body)
        else:
            self.send({"error": "Repository not found"}, body, status=404)

    def entry(self, name, contents):
        return {"type": "file", "path": name, "size": len(contents), "oid": digest(contents)}

    def send(self, contents, body, status=200):
        if not isinstance(contents, bytes):
            contents = json.dumps(contents).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest(contents)}"')
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        if body:
            self.wfile.write(contents)

    def log_message(self, *_):
        pass


def digest(contents):
    return hashlib.sha1(contents).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, with a tiny model and two files that nobody should fetch."""
    folder = write_folder(tmp_path / "made")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.files |= {"pytorch_model.bin": b"pickle", "modeling_custom.py": b"import os"}
    server.asked = []
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with server:
        yield server
        server.shutdown()
    thread.join()


def test_a_hub_id_is_fetched(hub):
    folder = resolve("tiny/llama")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load(folder).config.vocab_size == 11
    assert not any("pytorch_model" in path or "modeling" in path for path in hub.asked)


def test_without_a_network_the_hub_s_own_cache_serves(hub, monkeypatch):
    folder = resolve("tiny/llama")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens on the discard port
    assert resolve("tiny/llama") == folder
    with pytest.raises(FetchError, match=r"'tiny/other' is no local folder.*http://127.0.0.1:9"):
        resolve("tiny/other")


def test_a_model_that_the_hub_does_not_have(hub):
    with pytest.raises(FetchError, match=r"RepositoryNotFoundError.*Check the name, the network"):
        resolve("tiny/unknown")


def test_an_id_that_the_hub_refuses(hub):
    with pytest.raises(FetchError, match=r"HFValidationError"):
        resolve("tiny/-x-")


def test_a_model_without_safetensors(hub):
    del hub.files["model.safetensors"]
    with pytest.raises(UnsupportedModel, match=r"'tiny/llama' has no safetensors"):
        resolve("tiny/llama")
