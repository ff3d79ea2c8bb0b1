"""One engine in a process of its own: it loads once, then answers commands over a pipe.

    python -m experiments.benchmarks.worker NAME '{"folder": ..., "gguf": ..., ...}'

NAME is a module in `engines`. A command is a line of JSON, `{"do": "decode", ...}`; its answer is a
line too. What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Serve until the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(act: Callable[[], Any]) -> Any:
        try:
            result = act()
            answer = {"answer": result if isinstance(result, dict) else {}}
        except Exception as error:  # the driver decides whether to go on without this engine
            traceback.print_exc()
            result, answer = None, {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        return result

    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    engine = reply(lambda: _load(name, arguments))
    for line in sys.stdin if engine else ():
        command = json.loads(line)
        name = command.pop("do")
        reply(lambda name=name, command=command: getattr(engine, name)(**command))


def _load(name: str, arguments: dict[str, Any]) -> Any:
    return importlib.import_module(f"experiments.benchmarks.engines.{name}").Engine(**arguments)


if __name__ == "__main__":
    main()
