"""Train every program with every seed under every tool. What is there already is not run again.

python -m benchmarks.faults.run --out results/faults --seeds 5 --processes 2
python -m benchmarks.faults.table results/faults
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import multiprocessing
import os
import re
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.faults import baselines, signals, training
from benchmarks.faults.program import Program, Setup
from benchmarks.faults.sets import load

import pullback as pb
from pullback.train.state import copied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/faults"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument(
        "--set", default="fresh", help="calibration, fresh, reserve: commas between"
    )
    parser.add_argument("--tools", default="preflight,doctor,baselines")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    names = [x for x in chosen.only.split(",") if x] or _with_counterparts(chosen.set)
    jobs = [
        (name, seed, str(chosen.out), chosen.tools)
        for seed in range(chosen.seeds)
        for name in names
        if not (chosen.out / f"{name}-{seed}.json").exists()
    ]
    os.environ.setdefault("PULLBACK_THREADS", "1")
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(chosen.processes) as pool:
        for i, told in enumerate(pool.imap_unordered(_job, jobs), 1):
            print(f"{i}/{len(jobs)}  {time.monotonic() - start:.0f} s  {told}", flush=True)


def _with_counterparts(which: str) -> list[str]:
    """The programs of a set, and the healthy ones that its faults are compared with."""
    chosen = load(which)
    return list(dict.fromkeys([*chosen, *[x.healthy for x in chosen.values() if x.healthy]]))


def _job(job: tuple[str, int, str, str]) -> str:
    name, seed, out, tools = job
    program = load()[name]
    try:
        record = evaluate(program, seed, tools.split(","))
    except Exception:
        return f"{name}-{seed} failed\n{traceback.format_exc(limit=-4)}"
    path = Path(out) / f"{name}-{seed}.json"
    path.with_suffix(".part").write_text(json.dumps(record))
    path.with_suffix(".part").rename(path)
    return f"{name}-{seed}  {record['seconds']:.1f} s"


def evaluate(program: Program, seed: int, tools: list[str]) -> dict[str, Any]:
    """One run: its score, and what each tool says."""
    start = time.process_time()
    record: dict[str, Any] = {"program": program.name, "seed": seed, "lines": [*program.lines]}
    with np.errstate(all="ignore"):
        if "baselines" in tools or not tools:
            record |= _trained(program, seed)
        if "preflight" in tools:
            record["preflight"] = _preflight(program, seed)
        if "doctor" in tools:
            record["doctor"] = _doctor(program, seed)
    return record | {"seconds": time.process_time() - start}


# ---- the run itself, with its signals -------------------------------------------------------


def _trained(program: Program, seed: int) -> dict[str, Any]:
    setup = program.make(seed)
    gap = max(setup.steps // signals.LOOKS, 1)
    looks: list[dict[str, Any]] = []
    scores: list[float] = []

    def watch(i: int, model: Any, batch: tuple[Any, ...]) -> None:
        if i % gap == 0 or i == 5:
            model = copied(model)  # the step gives its memory away
            looks.append(signals.look(setup, i, model, batch))
            if setup.network_state is None:
                scores.append(setup.score(model))

    run = training.train(setup, seed, watch)
    looks = [x for x in looks if "layers" in x] or [{"step": 0, "layers": []}]
    signal = {
        "losses": run.losses,
        "scores": [*scores, run.score],
        "looks": looks,
        "ratios": run.ratios,
        "rate": _rate(program),
    }
    told = {name: tool(signal) for name, tool in baselines.TOOLS.items()}
    return {
        "score": run.score,
        "broke": run.broke,
        "steps": len(run.losses),
        "loss": [run.losses[0], float(np.mean(run.losses[-10:]))],
        "baselines": {name: _once(alarms) for name, alarms in told.items()},
    }


def _once(alarms: list[baselines.Alarm]) -> list[baselines.Alarm]:
    """Each message once, with the first layer it was given for."""
    first: dict[str, baselines.Alarm] = {}
    for each in alarms:
        first.setdefault(each[0], each)
    return list(first.values())


def _rate(program: Program) -> float | None:
    """The learning rate as it stands in the source."""
    text = inspect.getsource(program.make)
    found = re.search(
        r"(?:optim\.(?:sgd|adam|adamw|rmsprop|lion)|adam_uncorrected)\((\d[\d.e-]*)", text
    )
    return float(found[1]) if found else None


# ---- pullback -------------------------------------------------------------------------------


def _preflight(program: Program, seed: int) -> dict[str, Any]:
    setup = program.make(seed)
    batch = next(setup.stream(seed))
    try:
        report = pb.preflight(
            setup.model,
            setup.loss,
            batch,
            optimizer=setup.optimizer,
            network_state=setup.network_state,
            key=setup.key,
            seconds=5.0,
        )
    except pb.errors.PullbackError as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"findings": [_finding(x) for x in report.findings]}


def _doctor(program: Program, seed: int) -> dict[str, Any]:
    setup = program.make(seed)
    doctor = pb.inspect.Doctor()
    told: list[list[Any]] = []
    try:
        _watched(setup, seed, doctor, told)
        report = doctor.report()
    except pb.errors.PullbackError as error:
        return {"failed": f"{type(error).__name__}: {error}", "told": told}
    return {
        "findings": [_finding(x) for x in report.findings],
        "told": told,
        "took": doctor.seconds,
    }


def _watched(setup: Setup, seed: int, doctor: Any, told: list[list[Any]]) -> None:
    """The user's loop with a doctor in it."""
    state, step = training.begin(setup)
    stream = setup.stream(seed)
    by_hand = setup.step is not None
    if by_hand:
        first = state
        doctor.begin(
            setup.loss, setup.model, setup.optimizer, made=lambda *batch: step(first, *batch)
        )
    else:
        doctor.begin(step, state)
    for i in range(setup.steps):
        batch = next(stream)
        before = state
        state, metrics = step(state, *batch)
        broken = not math.isfinite(float(metrics[0] if by_hand else metrics.loss))
        if not by_hand:
            broken = bool(metrics.skipped) and setup.precision != "fp16"
        if broken:
            news = doctor.diverged(
                before[0] if by_hand else state, batch, *(() if by_hand else (metrics,))
            )
        elif by_hand:
            news = doctor.see(state[0], batch, loss=metrics[0], grads=metrics[1])
        else:
            news = doctor.see(state, batch, metrics)
        if news:
            told += [[i + 1, x] for x in re.findall(r"^[A-Z]+ +([A-Z]+\d\d)", news, re.MULTILINE)]
        if broken:
            break


def _finding(finding: Any) -> dict[str, Any]:
    site = finding.site
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "what": finding.what,
        "why": finding.why,
        "explained_by": finding.explained_by,
        "module": finding.module,
        "lines": [] if site is None else [[f.file, f.line] for f in site.frames],
        "names": [str(finding.numbers[k]) for k in ("parameter", "layer") if k in finding.numbers]
        + [str(x) for x in finding.numbers.get("parameters", [])],
    }


if __name__ == "__main__":
    main()
