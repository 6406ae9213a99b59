"""How a run is shown while it goes on: a bar in a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

BAR_SECONDS, LINE_SECONDS = 0.1, 30.0
"""The least time between two pictures of the bar, and between two plain lines."""
SHORTEST_SECONDS = 0.05
"""A shorter time measures no speed."""


class Display:
    """Shows steps now and then, and a line for each evaluation."""

    def __init__(self, shown: bool, total: int | None) -> None:
        self._shown = shown
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        self._every = LINE_SECONDS
        self._last = (0.0, 0)
        self._rate = 0.0
        self.examples = 0
        """Of a batch."""
        self.due = float("inf")
        """When, by `time.perf_counter`, the next step is to be shown."""

    def start(self, step: int) -> None:
        self._last = (time.perf_counter(), step)
        if not self._shown:
            return
        if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
            self._bar, self._task = _bar(self._total, step)
            self._every = BAR_SECONDS
        self.due = self._last[0] + self._every

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def first(self, step: int, examples: int) -> None:
        """Measure from here on: the first step of a process, in which it compiles, is past."""
        self.examples = examples
        self._last = time.perf_counter(), step

    def step(self, step: int, loss: float) -> None:
        """Show where the run stands; to be called when `due`."""
        self.due = time.perf_counter() + self._every
        self._measure(step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=f"{loss:.4g}", left=self._left(step))
            self._bar.refresh()
        else:
            self._line(f"step {step:,}{self._of()}  loss {loss:.6g}  {self._left(step)}")

    def round(self, row: Mapping[str, float], is_best: bool) -> None:
        """A line for an evaluation."""
        if not self._shown:
            return
        self._measure(int(row["step"]))
        shown = [f"epoch {row['epoch']:.0f}  step {row['step']:,.0f}{self._of()}"]
        shown += [f"{name} {x:.6g}" for name, x in row.items() if name not in _APART]
        if row["skipped"]:
            shown.append(f"{row['skipped']:.0f} steps skipped")
        shown.append(f"{row['seconds']:.1f} s")
        if self._bar is None:
            shown.append(self._left(int(row["step"])))
        shown.append("best" if is_best else "")
        self._tell("  ".join(filter(None, shown)))

    def tell(self, text: str) -> None:
        """What somebody who looks on has to say; nothing if it is empty."""
        if text and self._shown:
            self._tell(text)

    def tell_at_once(self, text: str) -> None:
        """The same from a signal handler, which may have come in the middle of a print."""
        if self._shown:
            with contextlib.suppress(AttributeError, OSError, ValueError):  # no terminal's stderr
                os.write(sys.stderr.fileno(), f"\n{text}\n".encode())

    def _tell(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        print(text.rstrip(), file=sys.stderr, flush=True)

    def _of(self) -> str:
        return f"/{self._total:,}" if self._total else ""

    def _measure(self, step: int) -> None:
        now = time.perf_counter()
        then, before = self._last
        if step > before and now - then > SHORTEST_SECONDS:
            fresh = (step - before) / (now - then)
            # The past counts half, so that one slow evaluation does not shake the estimate.
            self._rate = (self._rate + fresh) / 2 if self._rate else fresh
            self._last = now, step

    def _left(self, step: int) -> str:
        """How fast it goes and how long it will."""
        if not self._rate:
            return ""
        speed = f"{self._rate * self.examples:,.0f} examples/s"
        if not self._total or step >= self._total:
            return speed
        seconds = int((self._total - step) / self._rate)
        return f"{speed}  {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"


_APART = ("epoch", "step", "seconds", "skipped")


def _bar(total: int | None, step: int) -> tuple[Any, Any]:
    # Loading rich costs 60 ms, and a run without a terminal has no bar.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    fields = [TextColumn("loss {task.fields[loss]}"), TextColumn("{task.fields[left]}")]
    # No thread of its own: refreshed by the loop, it never takes the interpreter from a step.
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        *fields,
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    )
    bar.start()
    return bar, bar.add_task("", total=total, completed=step, loss="", left="")
