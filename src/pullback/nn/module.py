"""`Module`: a frozen dataclass that is a container of arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import optree

from pullback._public import complete
from pullback.errors import Frame, StructureError, calling_frames
from pullback.ir.array import Array
from pullback.ir.builder import current, named_scope
from pullback.schedule.picture import bytes_text
from pullback.transforms.tree import NAMESPACE, Tree, flatten

M = TypeVar("M", bound="Module")
MAKERS = 4
"""So many of the user's frames are kept of the call that makes a module."""
_children: ContextVar[dict[int, str] | None] = ContextVar(
    "names of the modules within", default=None
)


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Module:
    """Base class of layers and models. A subclass declares its fields and becomes a dataclass.

    Arrays and modules within the fields, also inside lists, tuples and dicts, are the children:
    `grad` differentiates them, `vmap` batches them, an optimiser updates them. All else (sizes,
    names, functions, None) belongs to the structure and is compared by equality.

    No decorator is wanted: `@dataclass` would replace what makes a module one, and raises.

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
    _parameters: ClassVar[object] = None
    """Those that the class was made a dataclass with."""
    _writes_init: ClassVar[bool] = False
    """Whether this class or one above it wrote its own `__init__`, which is then inherited."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._writes_init = cls._writes_init or "__init__" in vars(cls)
        dataclass(init=not cls._writes_init, eq=False, repr=False)(cls)
        container: Any = cls
        cls._parameters = container.__dataclass_params__
        if "__init__" in vars(cls):
            container.__init__ = _bordered(vars(cls)["__init__"])
        cls._fields = tuple(field.name for field in dataclasses.fields(container))
        if "__call__" in vars(cls):
            container.__call__ = _scoped(vars(cls)["__call__"])
        rebuild: Any = functools.partial(_unflatten, cls)
        take_apart: Any = _flatten
        optree.register_pytree_node(
            container, take_apart, rebuild, path_entry_type=_Entry, namespace=NAMESPACE
        )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made_by: Any = cls
        if cls._parameters is not getattr(made_by, "__dataclass_params__", None) or _slots(cls):
            raise StructureError(
                f"{cls.__name__} is decorated with @dataclass, and a pb.nn.Module is one already",
                hint=f"write `class {cls.__name__}(pb.nn.Module)` without the decorator",
            )
        module = object.__new__(cls)
        object.__setattr__(module, "_made", calling_frames(MAKERS))
        return module

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
        changed = _build(type(self), fields | changes, _layout(self).frozen)
        object.__setattr__(changed, "_made", made_at(self))
        return changed

    @property
    def parameter_count(self) -> int:
        """Number of elements of all arrays in the module."""
        return sum(x.size for x in _arrays(self))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in the module."""
        return sum(x.nbytes for x in _arrays(self))

    def __repr__(self) -> str:
        return "\n".join(_lines(self, "", ""))


def _slots(cls: type[Module]) -> bool:
    return any(vars(each).get("__slots__") for each in cls.__mro__[: cls.__mro__.index(Module)])


# ---- a module as a tree ---------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Layout:
    """The structure of a module: its fields as a tree, and the leaves that are no children."""

    fields: optree.PyTreeSpec
    names: tuple[str, ...]
    """For each leaf of the fields the expression that reaches it: `weight`, `layers[1]`."""
    static: tuple[tuple[int, Any], ...]
    frozen: frozenset[str]
    """Names of the children that no optimiser shall change (`nn.freeze`)."""
    made: tuple[Frame, ...] = field(default=(), compare=False)
    """The user's lines that made the module: known to it, and no part of its structure."""

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


def _build(cls: type[M], fields: dict[str, Any], frozen: frozenset[str] = frozenset()) -> M:
    module = object.__new__(cls)
    vars(module).update(fields)
    if frozen:
        object.__setattr__(module, "_frozen", frozen)
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
    names = _names(module._fields, structure)
    frozen = vars(module).get("_frozen", frozenset()) & {*names}
    return _Layout(structure, names, static, frozen, vars(module).get("_made", ()))


def made_at(module: Module) -> tuple[Frame, ...]:
    """The user's lines that made a module, innermost first; () where they are not known."""
    layout = vars(module).get("_layout")
    made: tuple[Frame, ...] = vars(module).get("_made", ()) if layout is None else layout.made
    return made


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


def leaf_marks(tree: Tree) -> Iterator[bool]:
    """For each leaf of a tree whether a module in it holds the leaf as frozen."""
    for part in optree.tree_leaves(tree, is_leaf=_is_module, namespace=NAMESPACE):
        if not isinstance(part, Module):
            yield False
            continue
        children, layout, names = _flatten(part)
        for name, child in zip(names, children, strict=True):
            if isinstance(child, Module):
                yield from leaf_marks(child)
            elif child is not None:  # in a tree of which a part was taken
                yield name in layout.frozen


def with_leaf_marks(tree: Tree, marks: Iterator[bool]) -> Tree:
    """The tree with its leaves marked as frozen or not, in their order."""
    parts, structure = optree.tree_flatten(tree, is_leaf=_is_module, namespace=NAMESPACE)
    return structure.unflatten([_marked(part, marks) for part in parts])


def _marked(part: Any, marks: Iterator[bool]) -> Any:
    if not isinstance(part, Module):
        if next(marks):
            raise StructureError(
                "only an array that a module holds can be frozen",
                hint="make the container of the others a subclass of pb.nn.Module",
            )
        return part
    children, layout, names = _flatten(part)
    frozen = set()
    marked = []
    for name, child in zip(names, children, strict=True):
        if isinstance(child, Module):
            marked.append(_marked(child, marks))
            continue
        marked.append(child)
        if child is not None and next(marks):
            frozen.add(name)
    return _unflatten(type(part), dataclasses.replace(layout, frozen=frozenset(frozen)), marked)


# ---- the module path of a node --------------------------------------------------------------


def _scoped(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` with the name of its module pushed, so that nodes recorded in it know their layer."""

    @functools.wraps(call)
    def called(self: Module, *args: Any, **kwargs: Any) -> Any:
        if current() is None:
            return call(self, *args, **kwargs)
        with _within(self):
            return call(self, *args, **kwargs)

    return _bordered(called)


def _bordered(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, whose errors name the class of the module and the user's line."""

    @functools.wraps(method)
    def bordered(self: Module, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            complete(error, type(self).__name__)
            raise

    return bordered


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
    children, layout, names = _flatten(module)
    yield f"{indent}{label}{type(module).__name__}({layout}){_size(module)}"
    for name, child in zip(names, children, strict=True):
        if isinstance(child, Module):
            yield from _lines(child, indent + "  ", f"{name}: ")
        else:
            mark = "  frozen" if name in layout.frozen else ""
            yield f"{indent}  {name}: {_describe(child)}{mark}"


def _size(module: Module) -> str:
    if not module.parameter_count:
        return ""
    frozen = sum(x.size for x in _frozen_arrays(module))
    among = f" ({frozen:,} frozen)" if frozen else ""
    return f"  {module.parameter_count:,} parameters{among}, {bytes_text(module.nbytes)}"


def _frozen_arrays(module: Module) -> Iterator[Any]:
    children, layout, names = _flatten(module)
    for name, child in zip(names, children, strict=True):
        if isinstance(child, Module):
            yield from _frozen_arrays(child)
        elif name in layout.frozen and _is_array(child):
            yield child


def _describe(leaf: object) -> str:
    if isinstance(leaf, Array):
        return str(leaf.type)
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return _short(leaf)


def _short(value: object) -> str:
    if isinstance(value, np.dtype):
        return value.name
    return getattr(value, "__name__", None) or repr(value)


def _arrays(module: Module) -> list[Any]:
    return [x for x in flatten(module)[0] if _is_array(x)]


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, Array | np.ndarray)
