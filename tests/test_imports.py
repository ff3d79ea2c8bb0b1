"""What importing and a first token cost: nothing heavy that is not needed."""

from __future__ import annotations

import subprocess
import sys

LATE = ("torch", "transformers", "pandas", "matplotlib", "ipywidgets", "flask", "huggingface_hub")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_next_to_nothing():
    loaded = run(f"import sys, toolkit; print([m for m in {(*LATE, 'jax')!r} if m in sys.modules])")
    assert loaded == "[]"


def test_a_first_token_needs_no_heavy_package(folder):
    code = f"""
import sys, toolkit
with toolkit.load() as lm:
    answer = lm.complete("The capital of France is", max_tokens=1, temperature=0)
print(answer["choices"][0]["text"], [m for m in {LATE!r} if m in sys.modules])
"""
    assert run(code) == "Paris []"
