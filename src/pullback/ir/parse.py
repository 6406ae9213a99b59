"""From text back to a graph: the inverse of `pullback.ir.text`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

from pullback.errors import NOWHERE, ParseError
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node
from pullback.ir.op import Op
from pullback.ir.types import DTYPES, TensorType

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*
    (?P<token>
        -?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+(?:e[+-]?\d+)?|inf\b|nan\b)
      | %\d+
      | '(?:[^'\\]|\\.)*'
      | \w+
      | [\[\](){}:=,]
      | $
    )""",
    re.VERBOSE,
)
_DTYPE = {each.name: each for each in DTYPES}
_WORD: dict[str, Any] = {
    "True": True,
    "False": False,
    "None": None,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
}
_TRACE = -1
"""Parsed values belong to no builder, so that using one by mistake is an error."""


def parse_graph(text: str) -> Graph:
    """The graph that `text` describes; `ParseError` with the line that is wrong."""
    parser = _Parser(text)
    graph = parser.graph()
    parser.take("")
    return graph


def op_classes() -> dict[str, type[Op]]:
    """Every op class that has been defined, by name."""
    return {each.name: each for each in _subclasses(Op) if "name" in vars(each)}


def _subclasses(cls: type[Op]) -> Iterator[type[Op]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.token = ""
        self.start = 0
        self.ops = op_classes()
        self._advance()

    # ---- tokens ----

    def _advance(self) -> str:
        taken = self.token
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            self.start = self.position
            raise self._error("not a token")
        self.token, self.start, self.position = match["token"], match.start("token"), match.end()
        return taken

    def take(self, expected: str) -> None:
        if self.token != expected:
            raise self._error(
                f"expected {expected or 'the end'!r}, found {self.token or 'the end'!r}"
            )
        if expected:
            self._advance()

    def accept(self, token: str) -> bool:
        found = self.token == token
        if found:
            self._advance()
        return found

    def _error(self, what: str) -> ParseError:
        line = self.text.count("\n", 0, self.start) + 1
        source = self.text.splitlines()[line - 1 : line] or [""]
        return ParseError(f"line {line}: {what}: {source[0].strip()!r}")

    def sequence(self, close: str, item: Callable[[], Any]) -> list[Any]:
        items = []
        while not self.accept(close):
            items.append(item())
            if self.token != close:
                self.take(",")
        return items

    # ---- grammar ----

    def graph(self) -> Graph:
        values: dict[str, Array] = {}
        self.take("graph")
        self.take("(")
        inputs = self.sequence(")", lambda: self._definition(values))
        self.take("{")
        nodes = []
        while self.token != "return":
            nodes.append(self._node(values))
        self.take("return")
        outputs = []
        while self.token != "}":
            outputs.append(self._use(values))
            if self.token != "}":
                self.take(",")
        self.take("}")
        return Graph(tuple(inputs), tuple(nodes), tuple(outputs))

    def _definition(self, values: dict[str, Array]) -> Array:
        name = self._advance()
        if not name.startswith("%"):
            raise self._error(f"{name!r} does not name a value")
        if name in values:
            raise self._error(f"{name} is made twice")
        self.take(":")
        dtype = self._advance()
        self.take("[")
        shape = self.sequence("]", lambda: int(self._advance()))
        if dtype not in _DTYPE:
            raise self._error(f"no element type {dtype!r}")
        values[name] = Array(TensorType(tuple(shape), _DTYPE[dtype]), None, _TRACE)
        return values[name]

    def _use(self, values: dict[str, Array]) -> Array:
        if self.token not in values:
            raise self._error(f"{self.token!r} names no value made above")
        return values[self._advance()]

    def _node(self, values: dict[str, Array]) -> Node:
        made: dict[str, Array] = {}
        outputs = []
        while not self.accept("="):
            outputs.append(self._definition(made))
            if self.token != "=":
                self.take(",")
        op = self._op()
        self.take("(")
        inputs = self.sequence(")", lambda: self._use(values))
        if not made.keys().isdisjoint(values):
            raise self._error(f"{min(made.keys() & values.keys())} is made twice")
        values.update(made)
        return Node(op, tuple(inputs), tuple(outputs), NOWHERE)

    def _op(self) -> Op:
        name = self._advance()
        cls = self.ops.get(name)
        if cls is None:
            raise self._error(f"no op is called {name!r}")
        attributes = self._attributes(cls, "]") if self.accept("[") else {}
        try:
            return cls(**attributes)
        except TypeError:
            expected = [f.name for f in fields(cls) if f.init]
            raise self._error(
                f"{name} has the attributes {expected}, not {sorted(attributes)}"
            ) from None

    def _attributes(self, cls: type, close: str) -> dict[str, Any]:
        hints = get_type_hints(cls)

        def attribute() -> tuple[str, Any]:
            name = self._advance()
            self.take("=")
            return name, self._value(hints.get(name))

        return dict(self.sequence(close, attribute))

    def _value(self, hint: Any) -> Any:
        if self.accept("("):
            return tuple(self.sequence(")", lambda: self._value(None)))
        if self.token == "graph":
            return self.graph()
        token = self._advance()
        if token in _WORD:
            return _WORD[token]
        if token in _DTYPE:
            return _DTYPE[token]
        if token.startswith("'"):
            return token[1:-1].encode().decode("unicode_escape")
        if re.fullmatch(r"-?\d+", token):
            return int(token)
        if re.match(r"-?\d", token):
            return float(token)
        if isinstance(hint, type) and issubclass(hint, Enum) and token in hint.__members__:
            return hint[token]
        if isinstance(hint, type) and is_dataclass(hint) and token == hint.__name__:
            self.take("(")
            return hint(**self._attributes(hint, ")"))
        raise self._error(f"{token!r} is no attribute value")
