"""Run the suite.

    python -m experiments.benchmarks                         every scenario
    python -m experiments.benchmarks cold_start --rounds 5   one of them

Each scenario writes a table and its raw figures into `experiments/benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import toolkit
from experiments.benchmarks import cold_start, decode_batch1, machine, peers
from experiments.benchmarks.engines import MODULES, OURS, PACKAGES
from experiments.benchmarks.settings import Settings, cores, hold_to
from experiments.benchmarks.subject import Subject

SCENARIOS = {"decode_batch1": decode_batch1.run, "cold_start": cold_start.run}


def main() -> None:
    """Measure, write the results, print the tables."""
    chosen, settings = _read_arguments()
    theirs = settings.peers or peers.interpreter()
    python = {engine: sys.executable if engine == OURS else theirs for engine in MODULES}
    hold_to(settings.threads)
    place = machine.describe()
    engines = {name: machine.versions(python[name], wanted) for name, wanted in PACKAGES.items()}
    place["engines"] = {**engines, OURS: {"toolkit": toolkit.__version__, **engines[OURS]}}
    subject = Subject.of(settings)
    for scenario in chosen:
        result = SCENARIOS[scenario](settings, subject, python)
        page = result.save(settings.out, place)
        print(f"\n{page.read_text(encoding='utf-8')}", flush=True)


def _read_arguments() -> tuple[list[str], Settings]:
    default = Settings(threads=cores())
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--model", help="folder, .gguf file or hub id; default embedded")
    parser.add_argument("--peers", type=Path, help="Python that has the peers; default .venv-peers")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--prompt-tokens", type=int, default=default.prompt_tokens)
    parser.add_argument("--new-tokens", type=int, default=default.new_tokens)
    parser.add_argument("--out", type=Path, default=default.out, help="folder of the results")
    given = vars(parser.parse_args())
    scenarios = given.pop("scenarios") or list(SCENARIOS)
    if unknown := sorted(set(scenarios) - SCENARIOS.keys()):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return scenarios, Settings(**given)


if __name__ == "__main__":
    main()
