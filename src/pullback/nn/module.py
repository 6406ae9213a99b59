"""`Module`: a frozen dataclass that is a container of arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import optree

from pullback.errors import PullbackError, StructureError, calling_site
from pullback.ir.array import Array
from pullback.ir.builder import current, named_scope
from pullback.transforms.tree import NAMESPACE, flatten

M = TypeVar("M", bound="Module")
_children: ContextVar[dict[int, str] | None] = ContextVar(
    "names of the modules within", default=None
)


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Module:
    """Base class of layers and models. A subclass declares its fields and becomes a dataclass.

    Arrays and modules within the fields, also inside lists, tuples and dicts, are the children:
    `grad` differentiates them, `vmap` batches them, an optimiser updates them. All else (sizes,
    names, functions, None) belongs to the structure and is compared by equality.

    A field is set once, in `__init__` (the one of the dataclass or one's own); later assignments
    raise `FrozenInstanceError`. `replace` gives a changed copy.

    >>> class Scale(Module):
    ...     factor: Array
    ...     def __call__(self, x: Array) -> Array:
    ...         return self.factor * x
    """

    takes_train: ClassVar[bool] = False
    """Whether a call takes `train=` and `key=`: it acts otherwise in training than in use."""
    is_stateful: ClassVar[bool] = False
    """Whether a call takes a state after x and returns (y, state); `initial_state()` makes one."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _writes_init: ClassVar[bool] = False
    """Whether this class or one above it wrote its own `__init__`, which is then inherited."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._writes_init = cls._writes_init or "__init__" in vars(cls)
        dataclass(init=not cls._writes_init, eq=False, repr=False)(cls)
        container: Any = cls
        cls._fields = tuple(field.name for field in dataclasses.fields(container))
        if "__call__" in vars(cls):
            container.__call__ = _scoped(vars(cls)["__call__"])
        rebuild: Any = functools.partial(_unflatten, cls)
        take_apart: Any = _flatten
        optree.register_pytree_node(
            container, take_apart, rebuild, path_entry_type=_Entry, namespace=NAMESPACE
        )

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self) or name not in self._fields:
            what = "is set already" if name in vars(self) else "is no field"
            raise FrozenInstanceError(
                f"{type(self).__name__}.{name} {what}; replace({name}=...) gives a changed copy"
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be deleted")

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; `StructureError` for a name that is no field."""
        unknown = changes.keys() - set(self._fields)
        if unknown:
            raise StructureError(
                f"{type(self).__name__} has no field {min(unknown)!r}",
                hint=f"its fields are {', '.join(self._fields)}",
            )
        fields = dict(zip(self._fields, _values(self), strict=True))
        return _build(type(self), fields | changes)

    @property
    def parameter_count(self) -> int:
        """Number of elements of all arrays in the module."""
        leaves = flatten(self)[0]
        return sum(x.size for x in leaves if isinstance(x, Array | np.ndarray))

    def __repr__(self) -> str:
        return "\n".join(_lines(self, "", ""))


# ---- a module as a tree ---------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Layout:
    """The structure of a module: its fields as a tree, and the leaves that are no children."""

    fields: optree.PyTreeSpec
    names: tuple[str, ...]
    """For each leaf of the fields the expression that reaches it: `weight`, `layers[1]`."""
    static: tuple[tuple[int, Any], ...]

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """Positions of the children among the leaves of the fields."""
        fixed = dict(self.static)
        return tuple(i for i in range(len(self.names)) if i not in fixed)

    @functools.cached_property
    def child_names(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.places)

    def __repr__(self) -> str:
        return ", ".join(f"{self.names[i]}={_short(value)}" for i, value in self.static)


class _Entry(optree.PyTreeEntry):
    """A step into a module: an attribute, and perhaps indices into the containers it holds."""

    def __call__(self, module: Any) -> Any:
        children, _, names = _flatten(module)
        return children[names.index(self.entry)]

    def codify(self, /, node: str = "") -> str:
        return f"{node}.{self.entry}"


def _flatten(module: Module) -> tuple[list[Any], _Layout, tuple[str, ...]]:
    layout = _layout(module)
    values: Any = _values(module)
    try:
        leaves: list[Any] = layout.fields.flatten_up_to(values)
    except ValueError as error:
        raise StructureError(f"{type(module).__name__} was changed in place: {error}") from None
    return [leaves[i] for i in layout.places], layout, layout.child_names


def _unflatten(cls: type[Module], layout: _Layout, children: Any) -> Module:
    leaves: list[Any] = [None] * layout.fields.num_leaves
    for place, value in layout.static:
        leaves[place] = value
    for place, child in zip(layout.places, children, strict=True):
        leaves[place] = child
    values: Any = layout.fields.unflatten(leaves)
    module = _build(cls, dict(zip(cls._fields, values, strict=True)))
    # Kept, because the leaves of a tree need not be arrays: None, a path, an axis of vmap.
    object.__setattr__(module, "_layout", layout)
    return module


def _build(cls: type[M], fields: dict[str, Any]) -> M:
    module = object.__new__(cls)
    vars(module).update(fields)
    return module


def _layout(module: Module) -> _Layout:
    known = vars(module).get("_layout")
    if known is not None:
        return known  # type: ignore[no-any-return]
    values: Any = _values(module)
    leaves, structure = optree.tree_flatten(values, is_leaf=_is_module, namespace=NAMESPACE)
    static = tuple((i, x) for i, x in enumerate(leaves) if not _is_child(x))
    for _, value in static:
        _refuse_hidden_arrays(module, value)
    return _Layout(structure, _names(module._fields, structure), static)


@functools.cache
def _names(fields: tuple[str, ...], structure: optree.PyTreeSpec) -> tuple[str, ...]:
    return tuple(fields[path[0].entry] + path[1:].codify("") for path in structure.accessors())


def _values(module: Module) -> tuple[Any, ...]:
    """What the fields hold, in the order of their declaration."""
    values = vars(module)
    try:
        return tuple([values[name] for name in module._fields])
    except KeyError as missing:
        raise StructureError(
            f"{type(module).__name__} has no value for its field {missing}",
            hint="set every declared field in __init__",
        ) from None


def _is_module(value: object) -> bool:
    return isinstance(value, Module)


def _is_child(value: object) -> bool:
    return isinstance(value, Array | Module) or (
        isinstance(value, np.ndarray) and value.dtype != object
    )


def _refuse_hidden_arrays(module: Module, value: object) -> None:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    if any(_is_child(getattr(value, field.name, None)) for field in dataclasses.fields(value)):
        raise StructureError(
            f"{type(module).__name__} holds a {type(value).__name__} whose arrays nothing sees",
            hint=f"make {type(value).__name__} a subclass of pb.nn.Module",
        )


# ---- the module path of a node --------------------------------------------------------------


def _scoped(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` with the name of its module pushed, so that nodes recorded in it know their layer."""

    @functools.wraps(call)
    def called(self: Module, *args: Any, **kwargs: Any) -> Any:
        try:
            if current() is None:
                return call(self, *args, **kwargs)
            with _within(self):
                return call(self, *args, **kwargs)
        except PullbackError as error:
            error.locate(type(self).__name__, calling_site())
            raise

    return called


@contextmanager
def _within(module: Module) -> Iterator[None]:
    around = _children.get()
    name = "" if around is None else around.get(id(module), type(module).__name__)
    token = _children.set(_names_within(module))
    try:
        with named_scope(name) if name else nullcontext():
            yield
    finally:
        _children.reset(token)


def _names_within(module: Module) -> dict[int, str]:
    children, _, names = _flatten(module)
    named = zip(children, names, strict=True)
    within = {id(child): name for child, name in named if isinstance(child, Module)}
    return within | {id(module): ""}  # super().__call__ is no step down


# ---- text -----------------------------------------------------------------------------------


def _lines(module: Module, indent: str, label: str) -> Iterator[str]:
    count = module.parameter_count
    children, layout, names = _flatten(module)
    head = f"{indent}{label}{type(module).__name__}({layout})"
    yield f"{head}  {count:,} parameters"
    for name, child in zip(names, children, strict=True):
        if isinstance(child, Module):
            yield from _lines(child, indent + "  ", f"{name}: ")
        else:
            yield f"{indent}  {name}: {_describe(child)}"


def _describe(leaf: object) -> str:
    if isinstance(leaf, Array):
        return str(leaf.type)
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return _short(leaf)


def _short(value: object) -> str:
    return getattr(value, "__name__", None) or repr(value)
