"""`python -m benchmarks.compare --suite eager`: time a suite and print the table, side by side."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from benchmarks.harness import Report, Spread, measure

SUITES = ("imports", "tracing", "eager", "training", "native", "products")
WHOLE = ("steps", "scaling")
"""Their contenders run in processes of their own: `pullback.bench`."""
RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--suite", choices=(*SUITES, *WHOLE, "all"), default="all")
    parser.add_argument("--rounds", type=int, default=None, help="interleaved rounds per suite")
    parser.add_argument("--only", default="", help="of steps and scaling: tasks, with commas")
    parser.add_argument("--without", default="", help="of steps and scaling: libraries left out")
    parser.add_argument("--threads", type=int, default=None, help="of steps and scaling")
    parser.add_argument("--json", metavar="DIR", help="also write each report as JSON into DIR")
    options = parser.parse_args(arguments)
    if options.suite in WHOLE:
        return _whole_steps(options)
    for name in SUITES if options.suite == "all" else (options.suite,):
        suite = importlib.import_module(f"benchmarks.suites.{name}")
        rows, missing = suite.rows()
        report = measure(name, rows, options.rounds or suite.ROUNDS, missing)
        print(render(report), flush=True)
        if options.json:
            os.makedirs(options.json, exist_ok=True)
            report.save(os.path.join(options.json, f"{name}.json"))
    return 0


def _whole_steps(options: argparse.Namespace) -> int:
    from pullback.bench.run import ROUNDS, Choice, run, wide_console  # noqa: PLC0415  (needs rich)
    from pullback.bench.workloads import SCALING, SUITE  # noqa: PLC0415

    only, without = (
        tuple(name.strip() for name in text.split(",") if name.strip())
        for text in (options.only, options.without)
    )
    path = Path(options.json) / f"{options.suite}.json" if options.json else None
    choice = Choice(only, without, options.threads, options.rounds or ROUNDS, json=path)
    run(choice, wide_console(), SUITE if options.suite == "steps" else SCALING)
    return 0


def render(report: Report) -> str:
    """One line a row, one column a contender; in brackets pullback's multiple of that contender."""
    names = list(dict.fromkeys(name for row in report.rows.values() for name in row))
    table = [["", *names, "goal"]]
    for title, row in report.rows.items():
        own = row.get("pullback")
        cells = [
            _cell(row[name], own if name != "pullback" else None) if name in row else "–"
            for name in names
        ]
        goal = report.goals.get(title)
        table.append([title, *cells, "" if goal is None else _verdict(goal, own)])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    probe = report.probe
    head = f"{report.suite}: medians of {report.rounds} rounds ± half the interquartile range"
    spread = f"{_seconds(probe.low)} … {_seconds(probe.high)}"
    load = report.machine["load"]
    foot = f"machine probe {_seconds(probe.median)} ({spread}), load {load}"
    absent = f"\nnot installed: {', '.join(report.missing)}" if report.missing else ""
    return "\n".join([head, *lines, foot]) + absent + "\n"


def _cell(spread: Spread, own: Spread | None) -> str:
    text = f"{_seconds(spread.median)} ±{_seconds((spread.high - spread.low) / 2)}"
    return text if own is None else f"{text} [{own.median / spread.median:.2g}×]"


def _verdict(goal: float, own: Spread | None) -> str:
    met = own is not None and own.median <= goal
    return f"≤ {_seconds(goal)} {'met' if met else 'MISSED'}"


def _seconds(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
