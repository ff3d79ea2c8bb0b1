"""Run the suite.

    python -m experiments.benchmarks                  most scenarios; every one with --all
    python -m experiments.benchmarks samples sweep    some of them
    python -m experiments.benchmarks --size check     does everything run? figures mean nothing
    python -m experiments.benchmarks --gpu            on an accelerator; with --tiny on any device
    python -m experiments.benchmarks --write-docs     docs/performance.md from the last results

Each scenario writes a table and its raw figures into `experiments/benchmarks/results/`. A run
that was cut off goes on with the scenario that it was in; `--fresh` begins anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import toolkit
from experiments.benchmarks import document, machine, peers
from experiments.benchmarks.engines import HOME, MODULES, OURS, PACKAGES
from experiments.benchmarks.journal import Journal
from experiments.benchmarks.scenarios import GPU, SCENARIOS, SELDOM, Skipped, runner
from experiments.benchmarks.settings import Settings, cores, hold_to
from experiments.benchmarks.subject import Subject


def main() -> int:
    """Measure, write the results, print the tables; how many scenarios failed."""
    chosen, settings, options = _read_arguments()
    if options["write_docs"]:
        print(document.write(settings.out))
        return 0
    theirs = settings.peers or peers.interpreter()
    python = {engine: sys.executable if engine in HOME else theirs for engine in MODULES}
    if not options["gpu"]:
        hold_to(settings.threads)
    place = _place(python)
    journal = Journal(
        settings.out,
        {
            "settings": [str(value) for value in dataclasses.astuple(settings)],
            "chosen": chosen,
            "versions": place["engines"],
        },
        fresh=options["fresh"],
    )
    if journal.done:
        print(f"going on after {', '.join(journal.done)}; --fresh begins anew", flush=True)
    subject = None if options["gpu"] else Subject.of(settings)
    failed = []
    for scenario in chosen:
        if scenario not in journal.done:
            if _run(scenario, settings, subject, python, place):
                journal.note(scenario)
            else:
                failed.append(scenario)
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
        return len(failed)
    journal.close()
    if settings.publishable:
        print(document.write(settings.out))
    return 0


def _run(
    scenario: str,
    settings: Settings,
    subject: Subject | None,
    python: dict[str, Any],
    place: dict[str, Any],
) -> bool:
    """One scenario; whether it is done. One that fails does not keep the others from running."""
    print(f"\n=== {scenario}", flush=True)
    began, company = time.perf_counter(), machine.Company()
    try:
        result = runner(scenario)(settings, subject, python)
    except Skipped as reason:
        print(f"skipped: {reason}", flush=True)
        return True
    except Exception:
        traceback.print_exc()
        return False
    page = result.save(settings.out, {**place, "company": company.cores()})
    print(f"\n{page.read_text(encoding='utf-8')}", flush=True)
    print(f"{scenario} took {time.perf_counter() - began:.0f} s", flush=True)
    return True


def _place(python: dict[str, Any]) -> dict[str, Any]:
    """The machine, and the versions of what is compared."""
    place = machine.describe()
    engines = {name: machine.versions(python[name], wanted) for name, wanted in PACKAGES.items()}
    place["engines"] = {**engines, OURS: {"toolkit": toolkit.__version__, **engines[OURS]}}
    return place


def _read_arguments() -> tuple[list[str], Settings, dict[str, bool]]:
    default = Settings(threads=cores())
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--model", help="folder, .gguf file or hub id; default embedded")
    parser.add_argument("--peers", type=Path, help="Python that has the peers; default .venv-peers")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--rounds", type=int, help="default: each scenario's own number")
    parser.add_argument("--size", choices=("check", "default", "full"), default=default.size)
    parser.add_argument("--out", type=Path, default=default.out, help="folder of the results")
    parser.add_argument("--all", action="store_true", help=f"with {', '.join(SELDOM)}")
    parser.add_argument("--gpu", action="store_true", help="large shapes on an accelerator")
    parser.add_argument("--tiny", action="store_true", help="with --gpu: a toy, on any device")
    parser.add_argument("--fresh", action="store_true", help="repeat what a cut-off run has done")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing, write the docs")
    given = vars(parser.parse_args())
    options = {name: given.pop(name) for name in ("gpu", "fresh", "write_docs")}
    known: tuple[str, ...] = GPU if options["gpu"] else SCENARIOS
    whole = given.pop("all") or given["size"] != "default"
    usual = [name for name in known if whole or name not in SELDOM]
    scenarios: list[str] = given.pop("scenarios") or usual
    if unknown := sorted(set(scenarios) - set(known)):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    return scenarios, Settings(**given), options


if __name__ == "__main__":
    sys.exit(main())
