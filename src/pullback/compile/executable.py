"""A program with what it takes to call it: arguments in, donated memory, results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pullback._settings import log, settings
from pullback.backend.program import Program, Slots, Span
from pullback.compile.captured import Watch
from pullback.compile.nonfinite import explain
from pullback.compile.profile import table
from pullback.compile.results import Reused
from pullback.compile.signature import Dynamic, Feed, Kind, ScalarType, Signature, Static, fits
from pullback.compile.stages import Lowered
from pullback.compile.state import Home, State, kill, overwrite, owned, revive, twice
from pullback.errors import ArgumentError, CompileError, DTypeError, NonFiniteError
from pullback.ir.array import Array, concrete
from pullback.ir.builder import is_finite
from pullback.ir.types import DType, Numbers, TensorType
from pullback.transforms.trace import Traced
from pullback.transforms.tree import flatten, unflatten

Given = list[Numbers]
"""The memory that a call brings for an argument; none for a state, which has its own."""


@dataclass(slots=True)
class Argument:
    """A dynamic argument of a program: where its leaves stand among the inputs."""

    name: str
    paths: list[str]
    """What to call each leaf."""
    form: Dynamic
    first: int
    span: Span
    cells: dict[int, Numbers]
    """The memory of its scalars."""
    donated: bool
    met: dict[int, frozenset[DType]] = field(default_factory=dict)
    """The element types that its scalars have to fit."""
    slots: Slots = ()
    """Where the pointer to the first leaf stands."""
    bound: int = 0
    """The number of the `Home` that the table points to."""
    is_plain: bool = field(init=False)
    """Whether it is one array that is only read."""

    def __post_init__(self) -> None:
        self.is_plain = self.form.is_leaf and not self.donated and not self.cells

    @property
    def range(self) -> range:
        """The numbers of its leaves among the inputs."""
        return range(self.first, self.first + self.span.count)

    def bind(self, program: Program, feed: Feed) -> Given:
        """Let the program read, or overwrite, what a call brings."""
        if type(feed) is State:
            feed.require_alive(self.name)
            if self.donated:
                feed.require_free(self.name)
            home = feed.home
            if self.bound != home.number:
                program.bind_span(self.span, home.addresses)
                self.bound = home.number
            return []
        assert isinstance(feed, list)
        self.bound = 0
        if self.is_plain:
            numbers = numbers_of(feed[0], self.form.kinds[0])
            program.point(self.slots, numbers)
            return [numbers]
        memory = []
        for i, (leaf, kind) in enumerate(zip(feed, self.form.kinds, strict=True)):
            numbers = self._numbers(i, leaf, kind)
            if i not in self.cells:
                program.bind(self.first + i, numbers)
            memory.append(numbers)
        return memory

    def _numbers(self, i: int, leaf: Any, kind: Kind) -> Numbers:
        if isinstance(kind, ScalarType):
            cell = self.cells[i]
            for dtype in self.met.get(i, ()):
                _require_fits(leaf, dtype)
            try:
                cell[...] = leaf
            except OverflowError:
                raise ArgumentError(f"the integer {leaf} does not fit {kind.dtype}") from None
            return cell
        return owned(leaf, self.paths[i]) if self.donated else numbers_of(leaf, kind)


class Executable:
    """A program that takes arguments of one signature."""

    def __init__(
        self, lowered: Lowered, signature: Signature, names: Sequence[str], watch: Watch
    ) -> None:
        self.lowered = lowered
        self.signature = signature
        self.program: Program = lowered.program
        self._arguments = self._place(names)
        self._donated = [k for k, each in enumerate(self._arguments) if each.donated]
        self.capture(lowered.traced, watch)
        self._at_work: list[Given] | None = None
        """What the call at work was given."""
        pairing = lowered.pairing
        self._parts, self._whole, self._pairs = pairing.parts, pairing.whole, pairing.pairs
        self._kept_states = {p.state for p in self._parts}
        kept = {i for p in self._parts if p.state is not None for i in p.range}
        self._shared = [
            (i, source)
            for i, source in enumerate(self.program.sources)
            if source is not None and i not in kept
        ]
        """The outputs that lie in the memory of an input and belong to no state."""
        self._tuple = lowered.traced.result.type is tuple
        keeps = lowered.memory is None
        self._made = [(i, Reused(kind, keeps), slots) for i, kind, slots in self.program.made]
        self._blank: list[Any] = [None] * len(self.program.sources)

    def _place(self, names: Sequence[str]) -> list[Argument]:
        placed: list[Argument] = []
        first = 0
        for k, (place, form) in enumerate(self.signature.dynamic):
            cells = {
                i: np.zeros((), kind.dtype)
                for i, kind in enumerate(form.kinds)
                if isinstance(kind, ScalarType)
            }
            for i, cell in cells.items():
                self.program.bind(first + i, cell)
            span = self.program.span(first, len(form.kinds))
            donated = k in self.lowered.donated
            slots = self.program.slots_of(first) if form.kinds else ()
            leaves = self.lowered.names[first : first + len(form.kinds)]
            met = {i: self.lowered.met[first + i] for i in cells if self.lowered.met[first + i]}
            placed.append(
                Argument(names[place], leaves, form, first, span, cells, donated, met, slots)
            )
            first += len(form.kinds)
        return placed

    def capture(self, traced: Traced, watch: Watch) -> None:
        """Let the program read these captured arrays from now on."""
        with self.program.lock:
            self.lowered.traced = traced
            self._captured = [numbers_of(x, x.type) for x in traced.captured]
            for i, numbers in enumerate(self._captured, len(self.signature.kinds)):
                self.program.bind(i, numbers)
            self.watch = watch

    # ---- which calls ----

    def match(self, args: Sequence[Any]) -> list[Feed] | None:
        """What the arguments of a call bring, if they have this signature: at once, for most."""
        signature = self.signature
        if len(args) != signature.count or signature.keywords:
            return None
        feeds: list[Feed] = []
        for value, form in zip(args, signature.arguments, strict=True):
            if isinstance(form, Static):
                same = value is form.value or value == form.value
                if type(value) is not form.type or not same:
                    return None
            elif type(value) is State:
                if value.argument is not form and value.argument != form:
                    return None
                feeds.append(value)
            else:
                leaves = _fitting(value, form)
                if leaves is None:
                    return None
                feeds.append(leaves)
        return feeds

    # ---- the call ----

    def __call__(self, feeds: Sequence[Feed]) -> Any:
        """The result. After an error the donated arrays are as they were.

        After an interrupt, which waits until the program has run, they all hold what the program
        wrote over them, and belong to the caller again.
        """
        given: list[Given] = []
        try:
            return self._locked(feeds, given)
        except BaseException:
            if self._at_work is given:
                self._at_work = None
            self._take_back(feeds, given)
            raise

    def _locked(self, feeds: Sequence[Feed], given: list[Given]) -> Any:
        with self.program.lock:
            if self._at_work is not None:
                raise CompileError(
                    f"{self.lowered.name} was called while its own call was at work",
                    hint="a signal handler or a callback called it; compile it once more for that",
                )
            self._at_work = given
            result = self._call(feeds, given)
            self._at_work = None
            return result

    def _call(self, feeds: Sequence[Feed], given: list[Given]) -> Any:
        program = self.program
        if self._donated:
            self._require_apart(feeds)
        given += [
            argument.bind(program, feed)
            for argument, feed in zip(self._arguments, feeds, strict=True)
        ]
        values = self._blank.copy()
        for i, reused, slots in self._made:
            memory = values[i] = reused.take()
            program.point(slots, memory)
        self._run(feeds, given, values)
        return self._result(feeds, given, values)

    def _run(self, feeds: Sequence[Feed], given: Sequence[Given], values: Sequence[Any]) -> None:
        chosen = settings()
        if not chosen.check:
            if "run" in chosen.log:
                self._run_in_steps(feeds, given)
            else:
                self.program.run()
            return
        kept = [x.copy() for x in self._inputs(feeds, given)]
        self._run_program()
        inputs = self._inputs(feeds, given)
        results = [
            values[i] if source is None else inputs[source]
            for i, source in enumerate(self.program.sources)
        ]
        if all(map(is_finite, results)):
            return
        try:
            explain(self.lowered.optimized, self.program.schedule, kept)
        except NonFiniteError:
            for k in self._donated:
                for i in self._arguments[k].range:
                    overwrite(inputs[i], kept[i])
            raise

    def _run_in_steps(self, feeds: Sequence[Feed], given: Sequence[Given]) -> None:
        """Kernel by kernel: what comes between two of them must not leave a state half new."""
        donated = {i for k in self._donated for i in self._arguments[k].range}
        inputs = self._inputs(feeds, given)
        kept = {i: inputs[i].copy() for i in donated}
        try:
            self._run_program()
        except BaseException:
            for i, numbers in kept.items():
                overwrite(inputs[i], numbers)
            raise

    def _run_program(self) -> None:
        if "run" in settings().log:
            seconds = list(self.program.stepwise())
            log("run", f"{self.lowered.name}: {table(self.program, seconds)}")
        else:
            self.program.run()

    def _inputs(self, feeds: Sequence[Feed], given: Sequence[Given]) -> list[Numbers]:
        """The numbers of all inputs, in order."""
        numbers: list[Numbers] = []
        for argument, feed, memory in zip(self._arguments, feeds, given, strict=True):
            if isinstance(feed, State):
                numbers += [feed.memory(i) for i in range(argument.span.count)]
            else:
                numbers += memory
        return numbers + self._captured

    def _require_apart(self, feeds: Sequence[Feed]) -> None:
        """Raise `DonationError` where one memory is donated twice, or donated and read."""
        states = [i for i, feed in enumerate(feeds) if type(feed) is State]
        if len(states) > 1:
            self._require_homes_apart(feeds, states)
        for i in self._donated:
            if type(feeds[i]) is not State or feeds[i].built:  # type: ignore[union-attr]
                _require_distinct(list(zip(self._arguments, feeds, strict=True)))
                return

    def _require_homes_apart(self, feeds: Sequence[Feed], states: Sequence[int]) -> None:
        given = {i: feeds[i] for i in states}
        homes = {i: feed.home for i, feed in given.items() if isinstance(feed, State)}
        for i, home in homes.items():
            for j, other in homes.items():
                first, second = self._arguments[i], self._arguments[j]
                if i != j and home is other and first.donated:
                    raise twice(f"`{first.name}`", f"`{second.name}`")

    def _result(self, feeds: Sequence[Feed], given: Sequence[Given], values: list[Any]) -> Any:
        program = self.program
        for i, kind, _ in program.made:
            numbers = values[i]
            numbers.flags.writeable = False
            values[i] = Array(kind, numbers)
        for i, source in self._shared:
            values[i] = self._from_input(i, source, feeds, given)
        homes = self._donate(feeds, given) if self._donated else {}
        parts = [
            State(homes[part.state])
            if part.state is not None
            else values[part.first]
            if part.is_leaf
            else unflatten(part.treedef, values[part.range.start : part.range.stop])
            for part in self._parts
        ]
        if self._whole:
            return parts[0]
        return tuple(parts) if self._tuple else parts

    def _donate(self, feeds: Sequence[Feed], given: Sequence[Given]) -> dict[int, Home]:
        """Take the donated arrays away from who passed them."""
        homes: dict[int, Home] = {}
        for k in self._donated:
            argument, feed = self._arguments[k], feeds[k]
            if isinstance(feed, State):
                feed.give()
                homes[k] = feed.home
                continue
            memory = given[k]
            assert isinstance(feed, list)
            if k in self._kept_states:
                homes[k] = Home(argument.form, memory)
            for leaf in feed:
                if isinstance(leaf, Array):
                    kill(leaf)
        return homes

    def _take_back(self, feeds: Sequence[Feed], given: Sequence[Given]) -> None:
        """Leave the donated arrays with who passed them, since no result reaches him."""
        for k in self._donated if given else ():
            feed = feeds[k]
            if isinstance(feed, State):
                feed.take_back()
                continue
            assert isinstance(feed, list)
            for leaf, numbers in zip(feed, given[k], strict=True):
                if isinstance(leaf, Array):
                    revive(leaf, numbers)

    def _from_input(
        self, i: int, source: int, feeds: Sequence[Feed], given: Sequence[Given]
    ) -> Array:
        """Output `i`, which lies in the memory of an input: donated, or passed through."""
        if source >= len(self.signature.kinds):
            return self.lowered.traced.captured[source - len(self.signature.kinds)]
        k = next(
            k for k, a in enumerate(self._arguments) if a.first <= source < a.first + a.span.count
        )
        place = source - self._arguments[k].first
        feed, memory = feeds[k], given[k]
        numbers = feed.memory(place) if isinstance(feed, State) else memory[place]
        if i in self._pairs:
            return concrete(numbers)
        leaf = feed[place] if isinstance(feed, list) else None
        if isinstance(leaf, Array):
            return leaf
        return concrete(numbers.copy())  # its owner may write to it


def _require_distinct(pairs: Sequence[tuple[Argument, Feed]]) -> None:
    """Raise `DonationError` where an array is donated, and passed once more."""
    seen: dict[int, str] = {}
    for argument, feed in sorted(pairs, key=lambda pair: pair[0].donated):
        for i, leaf in enumerate(feed if isinstance(feed, list) else feed.built):
            if isinstance(leaf, Array) and argument.donated and id(leaf) in seen:
                raise twice(argument.paths[i], seen[id(leaf)])
            seen[id(leaf)] = argument.paths[i] if argument.donated else argument.name


def _fitting(value: Any, form: Dynamic) -> list[Any] | None:
    """The leaves of a value, if it has this form."""
    if form.is_leaf:
        return [value] if fits(value, form.kinds[0]) else None
    leaves, treedef = flatten(value)
    if treedef != form.treedef:
        return None
    return leaves if all(map(fits, leaves, form.kinds)) else None


def _require_fits(number: Any, dtype: DType) -> None:
    """Raise for an integer that is too large where eager code would."""
    limits = np.iinfo(dtype)
    if not limits.min <= int(number) <= limits.max:
        raise DTypeError(f"{number} does not fit {dtype}, the type of what it meets")


def numbers_of(leaf: Any, kind: Kind) -> Numbers:
    """The numbers of an array argument, row-major, in this machine's byte order."""
    if isinstance(leaf, Array):
        assert leaf._data is not None
        numbers = leaf._data
    else:
        assert isinstance(kind, TensorType)
        numbers = np.asarray(leaf, kind.dtype)
    return numbers if numbers.flags.c_contiguous else np.ascontiguousarray(numbers)
