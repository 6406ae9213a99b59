"""`explain`: why a gradient is as it is: missing, zero, small, large or not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from pullback._public import public
from pullback._settings import override
from pullback.compile.driver import uncompiled
from pullback.errors import ArgumentError, Site
from pullback.inspect.birth import certificates
from pullback.inspect.cuts import cuts, deaths, detours, readers
from pullback.inspect.findings import Finding, short_place
from pullback.inspect.report import WIDTH, Report
from pullback.inspect.rules.cuts import CUT01, CUT04
from pullback.inspect.tape import Replay
from pullback.ir.array import Array
from pullback.ir.graph import Node, depends_on, needed_nodes
from pullback.ir.types import Numbers
from pullback.transforms.derivatives import chosen_positions

TELLING = 10.0
"""An operation that makes a gradient larger by more is named on a line of its own."""
HUGE = 1e3
"""One that makes it larger by more is told with what to write instead."""
ROUNDING = 4e-7
"""What is left of contributions that cancel, as a share of one of them: a few bits of float32."""
ROWS = 40
"""Rows of a path that are printed; the middle of a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one use of a value has in its gradient: ⟨contribution, total⟩ / ‖total‖²."""

    op: str
    site: Site
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Gain:
    """One operation of the dominant path, from the loss towards the parameter.

    `gain` is ‖contribution to the operand‖ / ‖cotangent of the result‖. `merge` is ‖total of the
    operand‖ / ‖contribution‖: 1 where the operand has one use, otherwise `shares` says which.
    """

    node: Node
    gain: float
    merge: float
    shares: tuple[Share, ...]

    @property
    def factor(self) -> float:
        return self.gain * self.merge

    @property
    def share(self) -> float:
        """What this use has of the operand's gradient. The shares of all uses add up to 1."""
        return max([x.share for x in self.shares], default=1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What is known of one gradient.

    `path` leads from the loss to the parameter, each time through the use with the largest share.
    Law: the product of its factors is `norm`, the L2 norm of the gradient.
    """

    name: str
    status: str
    """`flows`, `zero`, `missing`, `not finite`, or `frozen` (`nn.freeze`) with nothing to learn."""
    norm: float
    size: int
    path: tuple[Gain, ...]
    finding: Finding | None

    @property
    def rms(self) -> float:
        return self.norm / math.sqrt(self.size) if self.size else 0.0

    def layers(self) -> list[tuple[str, float, list[Gain]]]:
        """The path by layer: place (module path and line), product of the factors, steps."""
        rows: list[tuple[str, float, list[Gain]]] = []
        for step in self.path:
            place = _place(step.node.site)
            if rows and rows[-1][0] == place:
                rows[-1] = (place, rows[-1][1] * step.factor, [*rows[-1][2], step])
            else:
                rows.append((place, step.factor, [step]))
        return rows

    def __str__(self) -> str:
        head = f"{self.name}  {self.status}, norm {self.norm:.4g}, rms {self.rms:.3g}"
        if not self.path:
            return head
        lines = [head, f"{'factor':>10} {'so far':>10} {'share':>6}  from the loss to {self.name}"]
        so_far = 1.0
        for place, factor, steps in self.layers():
            so_far *= factor
            lines.append(_row(place, factor, so_far, steps))
        lines += self._remarks()
        if len(lines) > ROWS:
            half = ROWS // 2
            lines = [
                *lines[:half],
                f"{'…':>10} {'…':>10} {'…':>6}  {len(lines) - ROWS} more",
                *lines[-half:],
            ]
        return "\n".join(lines)

    def _remarks(self) -> list[str]:
        """What one operation of the path does to its size."""
        told = [
            f"nothing but rounding is left: the contributions of {len(x.shares)} uses cancel  "
            f"{_place(x.node.site)}"
            for x in self.path
            if x.merge < ROUNDING
        ]
        found = max(self.path, key=lambda x: x.factor)
        op, remedy = found.node.op, ""
        if found.factor > TELLING:
            told.append(f"grows most in {op.name}, x {found.factor:.3g}  {_place(found.node.site)}")
            remedy = getattr(op, "remedy", "")
        if found.factor > HUGE and remedy:
            told.append(f"  fix: {remedy}")
        return [line for text in told for line in wrap(text, WIDTH, subsequent_indent="  ")]


@dataclass(frozen=True, eq=False)
class Explanation(Report):
    """The report of `pb.explain`: its findings, and an `Account` of each gradient asked for."""

    accounts: tuple[Account, ...] = ()

    def __getitem__(self, name: str) -> Account:
        names = [x.name for x in self.accounts]
        return self.accounts[names.index(matching(names, name))]

    def __str__(self) -> str:
        if len(self.accounts) == 1:
            return f"{super().__str__()}\n{self.accounts[0]}"
        rows = [f"{x.norm:10.4g} {x.rms:10.3g}  {x.status:<10} {x.name}" for x in self.accounts]
        table = [f"{'norm':>10} {'rms':>10}  {'':<10} gradient of", *rows]
        return "\n".join([super().__str__(), *table])

    def to_dict(self) -> dict[str, Any]:
        accounts = [
            {"name": x.name, "status": x.status, "norm": x.norm, "rms": x.rms}
            for x in self.accounts
        ]
        return super().to_dict() | {"gradients": accounts}


@public
def explain(
    loss_fn: Callable[..., Any],
    *args: Any,
    wrt: str | None = None,
    argnums: int | tuple[int, ...] = 0,
) -> Explanation:
    """Why the gradient of a parameter is missing, zero, small, large or not finite; of all without
    `wrt`.

    `wrt` is a path, as `print(model)` shows it (`layers[2].weight`) or with the argument's name
    before it. `argnums` are the arguments that are differentiated. The loss is evaluated once, by
    the operations' references, and pulled back with every cotangent kept.

    Missing (`CUT01`): the cuts between it and the loss, or that it is never used. Zero (`CUT04`):
    the operation in which the cotangent became 0, and why. Not finite (`NUM01`, `NUM02`): the first
    operation that made NaN or infinity of finite operands, as `pb.inspect.births` names it.
    Otherwise the dominant path: a factor for each operation, whose product is the norm of the
    gradient.

    Raises `ShapeError` when the result is not one scalar, `ArgumentError` for an unknown path.

    >>> import numpy as np
    >>> import pullback as pb
    >>> def loss(p):
    ...     return pb.sum(pb.relu(p["w"] - 5.0))
    >>> print(explain(loss, {"w": np.ones(3)}).findings[0].why)
    dead: all 3 inputs are at or below 0, where its slope is 0
    """
    f = uncompiled(loss_fn)
    with override(check=0):
        replay = Replay(f, args, chosen_positions(f, argnums, len(args)))
    replay.require_loss("the function", "explain", "reduce it with pb.mean or pb.sum")
    if not replay.parameters:
        raise ArgumentError(
            f"argument {argnums} has no floating array to differentiate",
            hint="choose another with argnums=",
        )
    names = {replay.names[x]: x for x in replay.parameters}
    chosen = list(names) if wrt is None else [matching(list(names), wrt)]
    paths = Paths(replay)
    accounts = [account_of(f, args, paths, names[name]) for name in chosen]
    found = [x.finding for x in accounts if x.finding is not None]
    loss = replay.numbers(replay.graph.outputs[0]).item()
    if not math.isfinite(loss) or any(x.status == "not finite" for x in accounts):
        with override(check=0), np.errstate(all="ignore"):
            found = [*certificates(replay.tape()), *found]
    flowing = sum(x.status == "flows" for x in accounts)
    report = Report.of(
        f"explain  {replay.name}  loss {loss:.6g}",
        found,
        f"{flowing} of {len(accounts)} gradients flow",
    )
    return Explanation(
        report.title,
        report.findings,
        report.summary,
        report.declared,
        accounts=tuple(accounts),
    )


def matching(names: Sequence[str], wanted: str) -> str:
    """The path that is called `wanted`, or ends so; `ArgumentError` unless it is one."""
    own = (wanted,) if wanted.startswith(("[", ".")) else (f".{wanted}", f"[{wanted!r}]")
    found = [x for x in names if x == wanted] or [x for x in names if x.endswith(own)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArgumentError(
            f"{wanted!r} is the end of {len(found)} paths",
            hint=f"choose one of {', '.join(found)}",
        )
    raise ArgumentError(
        f"no parameter is called {wanted!r}", hint=f"the parameters are {', '.join(names)}"
    )


# ---- one gradient ---------------------------------------------------------------------------


def account_of(f: Callable[..., Any], args: Sequence[Any], paths: Paths, x: Array) -> Account:
    replay = paths.replay
    name = replay.names[x]
    bar = replay.bar(x)
    if x in replay.frozen and (bar is None or not np.any(bar)):
        return Account(name, "frozen", 0.0, x.size, (), None)
    if bar is None:
        return Account(name, "missing", 0.0, x.size, (), _missing(f, args, replay, x))
    norm = _norm(bar)
    if not math.isfinite(norm):
        return Account(name, "not finite", norm, x.size, (), None)
    if norm == 0.0:
        return Account(name, "zero", 0.0, x.size, (), CUT04.died(name, deaths(replay, x)))
    return Account(name, "flows", norm, x.size, paths.dominant(x), None)


def _missing(f: Callable[..., Any], args: Sequence[Any], replay: Replay, x: Array) -> Finding:
    name = replay.names[x]
    cutting = cuts(replay.graph, x)
    if cutting:
        return CUT01.cut(name, cutting)
    around = detours(f, args, replay, x)
    if around:
        return CUT01.detour(name, around)
    used = readers(replay.graph, x)
    refusing = _refusing(replay, x)
    if refusing is not None:
        return CUT01.by_rule(name, refusing)
    return CUT01.unused(name, used[0].site if used else None)


def _refusing(replay: Replay, source: Array) -> Node | None:
    """The node nearest to the loss whose rule gives nothing to what leads to `source`."""
    leading = depends_on(replay.graph.nodes, [source])
    needed = needed_nodes(replay.graph.nodes, replay.graph.outputs)
    for node in reversed(needed):
        received = not replay.totals.keys().isdisjoint(node.outputs)
        if received and any(x in leading and x not in replay.totals for x in node.inputs):
            return node
    return None


def _norm(x: Numbers) -> float:
    return float(np.linalg.norm(x.astype(np.float64).ravel()))


class Paths:
    """The dominant way up from every value that has been asked for."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self._steps: dict[Array, tuple[Gain, Array]] = {}

    def dominant(self, source: Array) -> tuple[Gain, ...]:
        """The path from the loss to `source` through the largest share at every merge."""
        path: list[Gain] = []
        x, loss = source, self.replay.graph.outputs[0]
        while x is not loss:
            if x not in self._steps:
                self._steps[x] = self._step(x)
            step, x = self._steps[x]
            path.append(step)
        return tuple(path[::-1])

    def _step(self, x: Array) -> tuple[Gain, Array]:
        """The node that has the largest share of the gradient of `x`, and its result."""
        totals = self.replay.totals
        total = _double(totals[x])
        given: dict[Node, Numbers] = {}
        for use in self.replay.uses[x]:  # x·x uses x twice
            bar = _double(use.bar)
            given[use.node] = given[use.node] + bar if use.node in given else bar
        shares = {
            node: float(np.vdot(b, total) / np.vdot(total, total)) for node, b in given.items()
        }
        best = max(shares, key=shares.__getitem__)
        norms = {y: _norm(totals[y].numpy()) for y in best.outputs if y in totals}
        above = max(norms, key=norms.__getitem__)
        contribution = _norm(given[best])
        told = [Share(n.op.name, n.site, share) for n, share in shares.items()]
        return (
            Gain(
                best,
                contribution / norms[above],
                _norm(total) / contribution,
                tuple(told) if len(told) > 1 else (),
            ),
            above,
        )


def _double(x: Array) -> Numbers:
    return x.numpy().astype(np.float64)


# ---- text -----------------------------------------------------------------------------------


def _place(site: Site) -> str:
    return short_place(site) if site.frame is None else f"{site.scope} {short_place(site)}".lstrip()


def _row(place: str, factor: float, so_far: float, steps: Sequence[Gain]) -> str:
    """Factors, the share of the way that is followed where there are several, place, operations."""
    ops = ", ".join(dict.fromkeys(step.node.op.name for step in steps))
    least = min(step.share for step in steps)
    merged = any(step.shares for step in steps)
    share = f"{least:6.0%}" if merged else f"{'':6}"
    text = f"{factor:10.3g} {so_far:10.3g} {share}  {place}  {ops}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 2]} …"
