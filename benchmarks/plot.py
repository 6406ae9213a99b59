"""`python -m benchmarks.plot results/scaling.json`: step and first call against size, as a PNG."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("numbers", type=Path, help="scaling.json of benchmarks.compare")
    parser.add_argument("--out", type=Path, help="the picture [default: beside the numbers]")
    options = parser.parse_args()
    lines = json.loads(options.numbers.read_text(encoding="utf-8"))["lines"]
    out = options.out or options.numbers.with_suffix(".png")
    draw(series(lines), out)
    print(out)


def series(lines):
    """{axis: {contender: [(size, seconds of a step, seconds of the first call)]}}."""
    found = {}
    for line in lines:
        axis, _, size = line["task"].partition(" ")
        for name, cell in line["cells"].items():
            if cell["turns"] and cell["first"] is not None:
                point = (int(size), statistics.median(cell["turns"]), cell["first"])
                found.setdefault(axis, {}).setdefault(name, []).append(point)
    return found


def draw(found, out):
    import matplotlib as mpl  # noqa: PLC0415  (where the numbers are made it may be absent)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    axes = list(found)
    figure, panels = plt.subplots(2, len(axes), figsize=(4 * len(axes), 6.5), squeeze=False)
    for column, axis in enumerate(axes):
        for name, points in found[axis].items():
            sizes, *rows = zip(*sorted(points), strict=True)
            for row, seconds in enumerate(rows):
                panels[row][column].plot(sizes, seconds, "o-", label=name)
        for row, title in enumerate(("a step, s", "first call, s")):
            panel = panels[row][column]
            panel.set(xscale="log", yscale="log", xlabel=axis)
            panel.set_xticks(sizes, [str(n) for n in sizes])
            panel.minorticks_off()
            panel.grid(visible=True, alpha=0.3)
            if column == 0:
                panel.set_ylabel(title)
    panels[0][0].legend()
    figure.suptitle("A transformer (4 layers, 192 wide, batch 8)\nand what grows in it")
    figure.tight_layout()
    figure.savefig(out, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
