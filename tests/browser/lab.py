"""A real JupyterLab on a free port of the loopback interface, in a folder of its own.

It and its kernels may not leave the machine: whoever tries is refused, and remembered in a file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
PATIENCE = 30
"""Seconds that a server may take to end."""

SETTINGS = {
    # Nothing that asks the network, and every cell in the page, also those out of sight.
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "notebook-extension/tracker": {"windowingMode": "none"},
}
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=50",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
GUARD = '''
"""Refuse and write down every connection of this process that would leave the machine."""
import ipaddress, sys

def local(host):
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified  # 0.0.0.0 is where servers listen
    except ValueError:
        return host == "localhost"

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = (arguments[0],)
    else:
        return
    host = address[0] if isinstance(address, tuple) else None  # a path is no network
    host = host.decode() if isinstance(host, bytes) else host
    if host and not local(host):
        with open({log!r}, "a") as file:
            file.write(f"{{event}} {{address!r}} by {{sys.argv[:4]}}\\n")
        raise PermissionError(f"{{event}} to {{host}}: this test runs without a network")

sys.addaudithook(watch)
'''


class Lab:
    """A running server. `folder` holds its notebooks."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], token: str):
        self.folder = folder
        self.process = process
        self.token = token
        self.said: list[str] = []
        self.address = self._awaited()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def url(self, notebook: str) -> str:
        """A notebook in a fresh workspace: the last one's hidden tabs would be found too."""
        workspace = secrets.token_hex(4)
        place = f"lab/workspaces/{workspace}/tree/{notebook}"
        return f"{self.address}{place}?token={self.token}&reset"

    @property
    def left(self) -> str:
        """Who tried to leave the machine; empty if nobody did."""
        log = self.folder.parent / "left.txt"
        return log.read_text(encoding="utf-8") if log.exists() else ""

    def close(self) -> None:
        """End the server and with it its kernels."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._lines.close()

    @property
    def _lines(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr

    def _awaited(self) -> str:
        for line in self._lines:
            self.said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                return found.group()
        raise RuntimeError(f"JupyterLab did not start:\n{''.join(self.said)}")

    def _read(self) -> None:
        self.said.extend(self._lines)


@contextmanager
def lab(home: Path) -> Iterator[Lab]:
    """Start JupyterLab below the empty folder `home`, and end it."""
    folder, token = home / "notebooks", secrets.token_hex(16)
    folder.mkdir()
    command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={folder}"]
    process = subprocess.Popen(
        [*command, f"--IdentityProvider.token={token}"],
        cwd=folder,
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    server = Lab(folder, process, token)
    try:
        yield server
    finally:
        server.close()


def environment(home: Path) -> dict[str, str]:
    """That of the tests, with Jupyter's files below `home`, the checkout to import, and guarded."""
    settings = home / "settings"
    for name, values in SETTINGS.items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    guard = home / "guard"
    guard.mkdir()
    source = GUARD.format(log=str(home / "left.txt"))
    (guard / "sitecustomize.py").write_text(source, encoding="utf-8")
    paths = [str(guard), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
