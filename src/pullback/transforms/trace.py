"""From a Python function to a closed graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pullback._public import public, without_library_frames
from pullback._settings import settings
from pullback.errors import (
    Frame,
    Site,
    StructureError,
    TracedValueError,
    calling_site,
)
from pullback.ir.array import Array
from pullback.ir.builder import Builder, building, call_user
from pullback.ir.graph import Graph, verify
from pullback.ir.types import TensorType
from pullback.transforms.tree import (
    Tree,
    TreeDef,
    argument_names,
    argument_paths,
    flatten,
    flatten_arrays,
    unflatten,
)


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A traced function: its closed graph, the arrays it captured, its result's structure.

    The hidden inputs, one for each captured array, are the last inputs of the graph. Auxiliary
    values, too, are outputs of the graph, the last ones.
    """

    graph: Graph
    captured: tuple[Array, ...]
    result: TreeDef
    aux: Aux

    def rebuild(self, outputs: Sequence[Any]) -> Tree:
        return unflatten(self.result, outputs)

    def divide(self, outputs: Sequence[Array]) -> tuple[Sequence[Array], Tree]:
        """The outputs that are the result, and the auxiliary values."""
        count = self.result.num_leaves
        return outputs[:count], self.aux.rebuild(outputs[count:])


@dataclass(frozen=True, slots=True, eq=False)
class Aux:
    """Auxiliary values, with None in the places of those that the trace has computed."""

    leaves: tuple[Any, ...]
    places: tuple[int, ...]
    structure: TreeDef

    @classmethod
    def of(cls, tree: Tree, builder: Builder) -> tuple[Aux, list[Array]]:
        """The auxiliary values without those of the trace, and these."""
        leaves, structure = flatten(tree)
        ours = [isinstance(x, Array) and x.trace == builder.trace for x in leaves]
        others = tuple([None if own else x for x, own in zip(leaves, ours, strict=True)])
        places = tuple([i for i, own in enumerate(ours) if own])
        return cls(others, places, structure), [leaves[i] for i in places]

    def rebuild(self, values: Sequence[Array]) -> Tree:
        leaves = list(self.leaves)
        for place, value in zip(self.places, values, strict=True):
            leaves[place] = value
        return unflatten(self.structure, leaves)


@public
def trace(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """The graph of `f`, which is called once with values that have types and no numbers.

    Arguments are arrays, or tensor types, or containers of them. Arrays that `f` captures become
    hidden inputs, listed after the arguments.

    Raises `StructureError` when an argument or a result is no array.
    """
    leaves, treedef = flatten(args)
    kinds = [
        x if isinstance(x, TensorType) else flatten_arrays(x, "argument")[0][0] for x in leaves
    ]
    return trace_leaves(f, kinds, treedef, evaluating=False, kwargs=kwargs).graph


@public
def types_of(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Tree:
    """What `f` would return, with a type in the place of each array; nothing is computed.

    So a model that no memory would hold has a type, and `pb.compile(step).lower(...)` plans for it.
    Arguments are those of `trace`, and what is raised is, too.

    >>> import pullback as pb
    >>> from pullback import nn
    >>> layer = pb.types_of(lambda: nn.Linear(10**6, 10**6, use_bias=False, key=pb.random.key(0)))
    >>> print(layer.weight)
    float32[1000000,1000000]
    """
    leaves, treedef = flatten(args)
    kinds = [
        x if isinstance(x, TensorType) else flatten_arrays(x, "argument")[0][0] for x in leaves
    ]
    traced = trace_leaves(f, kinds, treedef, evaluating=False, kwargs=kwargs)
    return traced.rebuild([x.type for x in traced.graph.outputs])


def trace_leaves(
    f: Callable[..., Any],
    leaves: Sequence[Array | TensorType],
    treedef: TreeDef,
    evaluating: bool | None = None,
    has_aux: bool = False,
    kwargs: dict[str, Any] | None = None,
    naming: Callable[[], Sequence[str]] | None = None,
) -> Traced:
    """Trace `f(*unflatten(treedef, leaves), **kwargs)`; with `has_aux`, it returns a pair.

    `evaluating` is passed on to `building`; `naming` gives the leaves' names for messages.
    """
    with building(evaluating) as builder:
        inputs = [builder.input(x) for x in leaves]
        builder.naming = naming or (lambda: _input_names(f, treedef))
        result = _call(f, unflatten(treedef, inputs), kwargs or {})
        aux = None
        if has_aux:
            result, aux = _split_aux(result)
        outputs, structure = flatten_arrays(result, "the result")
        extra, values = Aux.of(aux, builder)
        graph, captured = builder.finish([*outputs, *values])
    if settings().check:
        verify(graph)
    return Traced(graph, captured, structure, extra)


def _call(f: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    try:
        return call_user(f, *args, **kwargs)
    except TypeError as error:
        if "does not support ufuncs" not in str(error):
            raise
        refused = TracedValueError(
            "a NumPy function was called on a traced value",
            hint="use the pullback function of the same name; x.numpy() has no gradient",
        )
        refused.locate(
            "traced value", calling_site() if error.__traceback__ is None else _innermost(error)
        )
        raise refused from None


def _innermost(error: BaseException) -> Any:
    entry = without_library_frames(error.__traceback__)
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    return Site() if entry is None else Site((Frame(entry.tb_frame.f_code, entry.tb_lasti),))


def _split_aux(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise StructureError("with has_aux=True the function returns a pair (result, aux)")
    return result


def _input_names(f: Callable[..., Any], treedef: TreeDef) -> list[str]:
    return argument_paths(treedef, argument_names(f, range(treedef.num_children)))
