"""The tables of the evaluation, from what `run.py` wrote.

python -m benchmarks.faults.table results/faults                 # the fresh set
python -m benchmarks.faults.table results/faults --set calibration --failures
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from benchmarks.faults.program import Program
from benchmarks.faults.sets import load

BITES = 0.03
"""A fault counts where the score is lower than the healthy one by at least this much."""
OURS = ("pullback", "preflight alone", "doctor alone")


@dataclass(frozen=True)
class Verdict:
    """What one tool says of a run, the first cause first: ids, whether the place is right, text."""

    alarms: tuple[tuple[tuple[str, ...], bool, str], ...]

    def first_is(self, program: Program) -> bool:
        return bool(self.alarms) and bool(set(self.alarms[0][0]) & set(program.rules))

    def place_is(self) -> bool:
        return bool(self.alarms) and self.alarms[0][1]

    def true_alarms(self, program: Program) -> int:
        known = {*program.rules, *program.also}
        return sum(bool(set(ids) & known) for ids, _, _ in self.alarms)


def verdict(record: dict[str, Any], program: Program, tool: str) -> Verdict:
    if tool in OURS:
        parts = {"pullback": ("preflight", "doctor"), "preflight alone": ("preflight",)}
        found: list[dict[str, Any]] = []
        for part in parts.get(tool, ("doctor",)):
            alarms = [x for x in record.get(part, {}).get("findings", []) if _is_alarm(x)]
            found += [x for x in alarms if x["id"] not in {y["id"] for y in found}]
        return Verdict(
            tuple(((x["id"],), _is_place(x, program, record["lines"]), x["what"]) for x in found)
        )
    return Verdict(
        tuple(
            (tuple(ids), _is_layer(layer, program), message)
            for message, ids, layer in record["baselines"][tool]
        )
    )


def _is_alarm(finding: dict[str, Any]) -> bool:
    return finding["severity"] != "INFO" and not finding["explained_by"]


def _is_place(finding: dict[str, Any], program: Program, lines: list[int]) -> bool:
    mine = PurePath(program.file).name
    if any(PurePath(f).name == mine and n in lines for f, n in finding["lines"]):
        return True
    said = [finding["module"], *finding["names"], *finding["what"].split(), *finding["why"].split()]
    return any(_is_layer(x, program) for x in said)


def _is_layer(name: str, program: Program) -> bool:
    plain = _plain(name)
    return any(layer and plain.startswith(layer) for layer in map(_plain, program.layers))


def _plain(name: str) -> str:
    """A path without marks: `model['head'].weight` and `['head'].weight` are one place."""
    plain = name.strip("`'\":,;").removeprefix("model").removeprefix("params").lstrip(".[")
    return plain.replace("']", "").replace("'", "")


# ---- one set --------------------------------------------------------------------------------


@dataclass
class Scores:
    """Counts over the runs of a set."""

    faulty: int = 0
    detected: int = 0
    cause: int = 0
    placed: int = 0
    with_place: int = 0
    healthy: int = 0
    alarmed: int = 0
    alarms: int = 0
    true_alarms: int = 0

    def row(self) -> list[str]:
        share = [
            (self.detected, self.faulty),
            (self.cause, self.faulty),
            (self.placed, self.with_place),
            (self.true_alarms, self.alarms),
            (self.detected, self.detected + self.alarmed),
            (self.alarmed, self.healthy),
        ]
        return [f"{100 * a / b:.1f} %" if b else "–" for a, b in share]


def read(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    records = [json.loads(x.read_text()) for x in sorted(folder.glob("*.json"))]
    return {(x["program"], x["seed"]): x for x in records}


def bites(records: dict[tuple[str, int], dict[str, Any]], program: Program, seed: int) -> bool:
    """Whether the fault costs at least `BITES` against the healthy program with the same seed."""
    mine, other = records[program.name, seed], records.get((program.healthy, seed))
    if math.isnan(mine["score"]):
        return True
    return other is not None and mine["score"] <= other["score"] - BITES


def count(
    records: dict[tuple[str, int], dict[str, Any]], which: str, tool: str
) -> tuple[Scores, Counter[tuple[str, str]], list[str]]:
    """The scores, the confusion (kind, first alarm), and what failed."""
    programs, scores = load(which), Scores()
    confusion: Counter[tuple[str, str]] = Counter()
    failures = []
    for (name, seed), record in records.items():
        program = programs.get(name)
        if program is None:
            continue
        if program.kind and not bites(records, program, seed):
            continue
        it = verdict(record, program, tool)
        first = "/".join(it.alarms[0][0]) if it.alarms else "nothing"
        confusion[program.kind or "healthy", first] += 1
        scores.alarms += len(it.alarms)
        if not program.kind:
            scores.healthy += 1
            scores.alarmed += bool(it.alarms)
            if it.alarms:
                failures.append(f"{name}-{seed}: healthy, {first}: {it.alarms[0][2]}")
            continue
        scores.faulty += 1
        scores.detected += bool(it.alarms)
        scores.cause += it.first_is(program)
        scores.true_alarms += it.true_alarms(program)
        if program.has_place:
            scores.with_place += 1
            scores.placed += it.place_is()
        told = it.alarms[0][2] if it.alarms else ""
        if not it.first_is(program):
            failures.append(f"{name}-{seed}: {'/'.join(program.rules)}, said {first}: {told}")
        elif program.has_place and not it.place_is():
            failures.append(f"{name}-{seed}: {first} is right, its place is not: {told}")
    return scores, confusion, failures


HEAD = (
    "tool", "faults found", "root cause first", "line or layer", "alarms that are true",
    "alarmed runs that are faulty", "healthy runs alarmed",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--set", default="fresh", help="calibration, fresh, reserve: commas between"
    )
    parser.add_argument("--failures", action="store_true")
    parser.add_argument("--bites", action="store_true", help="faults that do not bite")
    chosen = parser.parse_args()
    records = read(chosen.folder)
    tools = (*OURS, *next(iter(records.values()))["baselines"])
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for tool in tools:
        scores, _, _ = count(records, chosen.set, tool)
        print("| " + " | ".join([tool, *scores.row()]) + " |")
    scores, confusion, failures = count(records, chosen.set, "pullback")
    print(f"\n{scores.faulty} faulty runs that bite, {scores.healthy} healthy runs")
    if chosen.failures:
        print("\n".join(failures))
    else:
        _print_confusion(confusion)
    if chosen.bites:
        _print_bites(records, chosen.set)


def _print_confusion(confusion: Counter[tuple[str, str]]) -> None:
    print("\n| kind | first alarm (runs) |\n|---|---|")
    for kind in dict.fromkeys(k for k, _ in confusion):
        said = [(n, first) for (k, first), n in confusion.items() if k == kind]
        said.sort(key=lambda x: (-x[0], x[1]))
        print(f"| {kind} | " + ", ".join(f"{first} {n}" for n, first in said) + " |")


def _print_bites(records: dict[tuple[str, int], dict[str, Any]], which: str) -> None:
    programs = load(which)
    for (name, seed), record in records.items():
        program = programs.get(name)
        if program is not None and program.kind and not bites(records, program, seed):
            other = records.get((program.healthy, seed), {}).get("score")
            print(f"does not bite: {name}-{seed}  {record['score']:.3f}, healthy {other}")


if __name__ == "__main__":
    main()
