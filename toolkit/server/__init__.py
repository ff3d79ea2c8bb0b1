"""Completions over HTTP: `create_app` makes the Flask application, `serve` runs it in a thread."""

from __future__ import annotations

from toolkit.server.app import create_app
from toolkit.server.serve import Server, serve

__all__ = ["Server", "create_app", "serve"]
