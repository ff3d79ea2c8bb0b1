"""Ctrl-C in a script and in a notebook: it stops at once, and the next completion works."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import toolkit

LONG = {"max_tokens": 4000, "ignore_eos": True, "temperature": 0.0}


def test_interrupt_in_the_main_thread(lm, interruptible):
    timer = threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT])
    began = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lm.complete("Once upon a time", **LONG)
    assert time.perf_counter() - began < 5
    answer = lm.complete("The capital of France is", max_tokens=1, temperature=0)
    assert answer["choices"][0]["text"] == " Paris"


def test_interrupt_while_prompts_are_computed(lm, interruptible):
    """The chunk that runs is finished; nothing else of the cancelled request is computed."""
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        lm.complete([[token] * 500 for token in range(100, 140)], max_tokens=3)
    before = lm.stats().prefilled
    lm.complete("The capital of France is", max_tokens=1, temperature=0)
    assert lm.stats().prefilled - before < 3 * 512


def test_a_long_prompt_that_is_cancelled_ends_and_leaves_nothing(lm):
    """Few chunks are sent ahead of the device, and its cache is given back while nobody asks."""
    prompt = [100 + i % 3000 for i in range(8 * 512)]
    before = lm.stats().prefilled
    stream = lm.stream(prompt, max_tokens=1)
    wait_until(lambda: lm.stats().prefilled > before)
    stream.close()
    wait_until(lambda: lm.engine._prefill is None)
    assert lm.stats().prefilled - before < len(prompt)
    lm.complete("x", max_tokens=1)
    assert lm.stats().prefilled - before < len(prompt) + 512


def wait_until(happened):
    """Look again and again, a minute at most."""
    end = time.perf_counter() + 60
    while not happened():
        assert time.perf_counter() < end
        time.sleep(0.001)


def test_a_script_that_ends_in_the_middle_of_a_stream_says_nothing():
    script = """
import toolkit
lm = toolkit.load()
unread = lm.stream("ab", max_tokens=100, ignore_eos=True)
begun = lm.stream("ab", max_tokens=100, ignore_eos=True)
next(begun)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Traceback" not in done.stderr and "Error" not in done.stderr


def test_closing_a_stream_from_another_thread(lm):
    stream = lm.stream("Once upon a time", **LONG)
    next(stream)
    reader = threading.Thread(target=list, args=[stream])
    reader.start()
    stream.close()
    reader.join(timeout=30)
    assert not reader.is_alive()
    lm.complete("x", max_tokens=1)
    assert lm.engine.running == 0


def test_a_model_that_nobody_holds_ends_its_thread(folder):
    model = toolkit.load(folder)
    model.complete("x", max_tokens=1)
    thread = model.engine._thread
    assert thread is not None and thread.is_alive()
    del model
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_closing_a_stream_frees_its_row(lm):
    stream = lm.stream("Once upon a time", **LONG)
    next(stream)
    stream.close()
    lm.complete("x", max_tokens=1)
    assert lm.engine.running == 0


NOTEBOOK = """
import threading
import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

cells = [
    "import toolkit; lm = toolkit.load(); lm.complete('Once', max_tokens=2)",
    "lm.complete('Once upon a time', max_tokens=4000, ignore_eos=True)",
    "print(lm.complete('The capital of France is', max_tokens=1, temperature=0)"
    "['choices'][0]['text'])",
]
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
manager = KernelManager(kernel_name="python3")
client = NotebookClient(book, km=manager, timeout=120, allow_errors=True)

def interrupt_second(cell, cell_index):
    if cell_index == 1:
        threading.Timer(3.0, manager.interrupt_kernel).start()

client.on_cell_execute = interrupt_second
client.execute()
(error,) = [out for out in book.cells[1].outputs if out.output_type == "error"]
print(error.ename, book.cells[2].outputs[0].text.strip())
"""


def test_interrupting_a_cell_of_a_notebook(folder):
    """The kernel gets the interrupt that Jupyter's stop button sends, while a cell completes.

    In a process of its own, since the client leaves sockets to the garbage collector.
    """
    command = [sys.executable, "-W", "ignore", "-c", NOTEBOOK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "KeyboardInterrupt Paris", done.stderr
