"""The parameters of PyTorch's modules in the layers of `pb.nn` by name, and the way back.

Weights of Linear, convolutions, norms and Embedding are laid out alike, so names are all that is
mapped. Where PyTorch stacks what is apart here (the projections of attention), or keeps two biases
that are only ever added (recurrent layers), the layer's rule says so.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from pullback._public import public
from pullback.errors import ArgumentError, StructureError, nearest
from pullback.ir.array import Array
from pullback.ir.types import Numbers
from pullback.nn.containers import Sequential
from pullback.nn.recurrent import GRU, LSTM, RNN
from pullback.nn.transformer import MultiHeadAttention, TransformerBlock
from pullback.train.checkpoint import fitted
from pullback.train.safetensors import load_safetensors
from pullback.transforms.tree import NAMESPACE, Tree, built

STATISTICS = ("*running_mean", "*running_var", "*num_batches_tracked")
"""What batch norm counts in PyTorch is a state here, not a parameter."""


@public
def from_torch(
    like: Tree,
    weights: Mapping[str, Any] | str | os.PathLike[str],
    *,
    names: Mapping[str, str] | None = None,
    ignore: Sequence[str] = STATISTICS,
) -> Tree:
    """`like` with the weights of a PyTorch `state_dict`, or of a safetensors file.

    A path here is the same name there (`layers[0].weight` is `layers.0.weight`, in a Sequential
    `0.weight`); `names` gives the name there of a layer or array where it is another, by the path
    that `print(like)` shows. `ignore` are patterns of names that may be left over.

    Raises `StructureError` for a weight that is missing or left over, `ShapeError` or `DTypeError`
    for one that does not fit.
    """
    file = isinstance(weights, str | os.PathLike)
    source = _Source(
        os.fspath(weights) if file else "the state_dict",  # type: ignore[arg-type]
        load_safetensors(weights) if file else weights,  # type: ignore[arg-type]
    )
    whole = built(like)
    found: dict[str, Any] = {}
    renamed = dict(names or {})
    _collect(whole, "", "", source, renamed, found)
    if renamed:
        raise ArgumentError(f"{next(iter(renamed))!r} in names is no path of the tree")
    source.require_used(ignore)
    return fitted(source.name, found, whole)


@public
def to_torch(model: Tree, *, names: Mapping[str, str] | None = None) -> dict[str, Numbers]:
    """The weights of a model as NumPy arrays under the names of PyTorch's `state_dict`.

    The way back from `from_torch`, with the names and layouts of the layers of torch.nn that these
    are: `from_torch(like, to_torch(model))` is the model. `names` gives the name there of a layer
    or array where it is another. Statistics of batch norm are a state and not among the weights.

    Raises `StructureError` where two arrays have one name there.

    >>> import pullback as pb
    >>> sorted(to_torch(pb.nn.Sequential(pb.nn.Linear(3, 2, key=pb.random.key(0)), pb.nn.relu)))
    ['0.bias', '0.weight']
    """
    renamed = dict(names or {})
    found: dict[str, Numbers] = {}
    for name, array in _spread(built(model), "", "", renamed):
        if name in found:
            raise StructureError(
                f"two arrays of the model are {name!r} there",
                hint="names={path here: name there} tells them apart",
            )
        found[name] = array
    if renamed:
        raise ArgumentError(f"{next(iter(renamed))!r} in names is no path of the tree")
    return found


class _Source:
    """Arrays by name, and which of them were taken."""

    def __init__(self, name: str, arrays: Mapping[str, Any]) -> None:
        self.name = name
        self._arrays = arrays
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def take(self, name: str) -> Numbers:
        if name not in self._arrays:
            near = nearest(name, self._arrays, cutoff=0.4)
            raise StructureError(
                f"{self.name} has no {name!r}",
                hint=f"it has {near!r}; names={{path here: name there}} tells it" if near else None,
            )
        self._taken.add(name)
        return np.asarray(self._arrays[name])

    def require_used(self, ignore: Sequence[str]) -> None:
        left = [
            name
            for name in self._arrays
            if name not in self._taken and not any(fnmatch.fnmatch(name, x) for x in ignore)
        ]
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            raise StructureError(
                f"{self.name} has {left[0]!r}{more}, which has no place in the model",
                hint="ignore=[pattern] leaves names out",
            )


def _collect(
    part: Any,
    path: str,
    name: str,
    source: _Source,
    renamed: dict[str, str],
    found: dict[str, Any],
) -> None:
    """Put the arrays of `part`, at `path` here and `name` there, into `found` by their paths."""
    name = renamed.pop(path, name)
    if isinstance(part, Array | np.ndarray):
        found[path] = source.take(name)
        return
    if part is None:
        return
    dot = f"{name}." if name else ""
    stacked = _stacked(part, dot, source)
    if stacked is not None:
        found.update({_joined(path, key): value for key, value in stacked.items()})
        return
    for child, here, there in _children(part, path, _child_names(part, dot, source)):
        _collect(child, here, f"{dot}{there}", source, renamed, found)


def _spread(
    part: Any, path: str, name: str, renamed: dict[str, str]
) -> Iterator[tuple[str, Numbers]]:
    """The arrays of `part`, at `path` here, under the names below `name` there."""
    name = renamed.pop(path, name)
    if isinstance(part, Array | np.ndarray):
        yield name, np.array(part)
        return
    if part is None:
        return
    dot = f"{name}." if name else ""
    stacked = _unstacked(part)
    if stacked is not None:
        yield from ((f"{dot}{key}", value) for key, value in stacked.items())
        return
    for child, here, there in _children(part, path, _child_names(part, dot, _ANYTHING)):
        yield from _spread(child, here, f"{dot}{there}", renamed)


def _children(part: Any, path: str, theirs: Mapping[str, str]) -> Iterator[tuple[Any, str, str]]:
    """Each child with its path here and its name in its parent there."""
    children, _, entries, _ = optree.tree_flatten_one_level(part, namespace=NAMESPACE)
    is_module = optree.is_namedtuple(part) or not isinstance(part, dict | list | tuple)
    for child, entry in zip(children, entries, strict=True):
        here = _joined(path, str(entry)) if is_module else f"{path}[{entry!r}]"
        same = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", str(entry))
        yield child, here, theirs.get(str(entry), same)


class _Anything:
    """A source that has every name."""

    def __contains__(self, name: str) -> bool:
        return True


_ANYTHING = _Anything()
_Names = _Source | _Anything


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# ---- layers that have other names there -----------------------------------------------------


@functools.singledispatch
def _child_names(part: Any, dot: str, source: _Names) -> Mapping[str, str]:
    """For children of `part` their names there, where these are not the same."""
    return {}


@_child_names.register
def _(part: Sequential, dot: str, source: _Names) -> Mapping[str, str]:
    return {f"layers[{i}]": str(i) for i in range(len(part.layers))}


@_child_names.register
def _(part: TransformerBlock, dot: str, source: _Names) -> Mapping[str, str]:
    if f"{dot}norm1.weight" not in source:
        return {}
    return {
        "attention": "self_attn",
        "attention_norm": "norm1",
        "feedforward_norm": "norm2",
        "expand": "linear1",
        "contract": "linear2",
    }


# ---- layers that are laid out otherwise there -----------------------------------------------


@functools.singledispatch
def _stacked(part: Any, dot: str, source: _Source) -> Mapping[str, Numbers] | None:
    """The arrays of `part` by their paths in it, made of others; None where they are the same."""
    return None


@_stacked.register
def _(part: MultiHeadAttention, dot: str, source: _Source) -> Mapping[str, Numbers] | None:
    if f"{dot}out_proj.weight" not in source:
        return None
    projections = ("query", "key", "value")
    if f"{dot}in_proj_weight" in source:
        weights = np.split(source.take(f"{dot}in_proj_weight"), 3)
    else:
        weights = [source.take(f"{dot}{each[0]}_proj_weight") for each in projections]
    arrays = {f"{each}.weight": w for each, w in zip(projections, weights, strict=True)}
    arrays["output.weight"] = source.take(f"{dot}out_proj.weight")
    if part.query.bias is not None:
        biases = np.split(source.take(f"{dot}in_proj_bias"), 3)
        arrays |= {f"{each}.bias": b for each, b in zip(projections, biases, strict=True)}
        arrays["output.bias"] = source.take(f"{dot}out_proj.bias")
    return arrays


@_stacked.register(RNN)
@_stacked.register(LSTM)
@_stacked.register(GRU)
def _(part: RNN | LSTM | GRU, dot: str, source: _Source) -> Mapping[str, Numbers] | None:
    end = "_l0_reverse" if part.reverse and f"{dot}weight_ih_l0_reverse" in source else "_l0"
    if f"{dot}weight_ih{end}" not in source:
        return None
    arrays = {
        "weight_input": source.take(f"{dot}weight_ih{end}"),
        "weight_hidden": source.take(f"{dot}weight_hh{end}"),
    }
    if part.bias is None:
        return arrays
    b, b_hidden = source.take(f"{dot}bias_ih{end}"), source.take(f"{dot}bias_hh{end}")
    if not isinstance(part, GRU):
        return arrays | {"bias": b + b_hidden}
    # The candidate's hidden bias is within the reset gate: r (U h + b'), and cannot be added.
    last = 2 * part.hidden_size
    together = np.concatenate([b[:last] + b_hidden[:last], b[last:]])
    return arrays | {"bias": together, "bias_hidden": b_hidden[last:]}


# ---- and back -------------------------------------------------------------------------------


@functools.singledispatch
def _unstacked(part: Any) -> Mapping[str, Numbers] | None:
    """The arrays of `part` as they lie there, by their names; None where they are the same."""
    return None


@_unstacked.register
def _(part: MultiHeadAttention) -> Mapping[str, Numbers] | None:
    if part.kv_heads != part.heads:
        return None  # which torch.nn has not
    projections = (part.query, part.key, part.value)
    weights = [np.array(each.weight) for each in projections]
    arrays = {"out_proj.weight": np.array(part.output.weight)}
    if len({w.shape for w in weights}) == 1:
        arrays["in_proj_weight"] = np.concatenate(weights)
    else:
        arrays |= {f"{x}_proj_weight": w for x, w in zip("qkv", weights, strict=True)}
    if part.output.bias is not None:
        arrays["in_proj_bias"] = np.concatenate([np.array(each.bias) for each in projections])
        arrays["out_proj.bias"] = np.array(part.output.bias)
    return arrays


@_unstacked.register(RNN)
@_unstacked.register(LSTM)
@_unstacked.register(GRU)
def _(part: RNN | LSTM | GRU) -> Mapping[str, Numbers]:
    end = "_l0_reverse" if part.reverse else "_l0"
    arrays = {
        f"weight_ih{end}": np.array(part.weight_input),
        f"weight_hh{end}": np.array(part.weight_hidden),
    }
    if part.bias is None:
        return arrays
    bias = np.array(part.bias)
    hidden = np.zeros_like(bias)
    if isinstance(part, GRU):
        hidden[2 * part.hidden_size :] = np.array(part.bias_hidden)
    return arrays | {f"bias_ih{end}": bias, f"bias_hh{end}": hidden}
