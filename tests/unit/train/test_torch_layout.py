"""A model's weights under PyTorch's names, and back; safetensors files of any arrays."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError, DTypeError, StructureError
from pullback.train import from_torch, load_safetensors, save_safetensors, to_torch
from pullback.transforms.tree import flatten, map_leaves

nn = pb.nn
KEY = pb.random.key(2)


def network():
    return {
        "convolution": nn.Sequential(nn.Conv2d(3, 4, 3, key=KEY), nn.relu, nn.BatchNorm(4)),
        "block": nn.TransformerBlock(8, 2, key=KEY),
        "shared": nn.MultiHeadAttention(8, 4, kv_heads=2, use_bias=False, key=KEY),
        "context": nn.MultiHeadAttention(8, 2, context_size=6, key=KEY),
        "ahead": nn.LSTM(8, 3, key=KEY),
        "back": nn.GRU(8, 3, reverse=True, key=KEY),
        "plain": nn.RNN(8, 3, use_bias=False, key=KEY),
        "scale": np.float32([1.5, 2.5]),
    }


def test_there_and_back():
    rng = np.random.default_rng(0)
    model = map_leaves(lambda x: rng.normal(size=x.shape).astype(np.float32), network())
    arrays = to_torch(model)
    assert arrays["block.self_attn.in_proj_weight"].shape == (24, 8)
    assert arrays["context.k_proj_weight"].shape == (8, 6)
    assert {"convolution.0.weight", "shared.query.weight", "back.bias_hh_l0_reverse"} <= {*arrays}
    again = from_torch(network(), arrays)
    for x, y in zip(flatten(model)[0], flatten(again)[0], strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_arrays_are_ones_own():
    model = nn.Linear(3, 2, key=KEY)
    arrays = to_torch(model)
    before = model.weight.numpy().copy()
    arrays["weight"][:] = 0
    np.testing.assert_array_equal(model.weight, before)


def test_other_names():
    model = {"body": nn.Linear(3, 4, key=KEY), "head": nn.Linear(4, 2, key=KEY)}
    names = {"['head']": "classifier"}
    arrays = to_torch(model, names=names)
    assert sorted(arrays) == ["body.bias", "body.weight", "classifier.bias", "classifier.weight"]
    assert flatten(from_torch(model, arrays, names=names))[1] == flatten(model)[1]
    with pytest.raises(StructureError, match=r"two arrays of the model are 'body\.\w+' there"):
        to_torch(model, names={"['head']": "body"})
    with pytest.raises(ArgumentError, match="'hat' in names is no path of the tree"):
        to_torch(model, names={"hat": "classifier"})


def test_a_file_of_arrays(tmp_path):
    arrays = {"a": np.arange(3), "b": pb.ones((2, 2), dtype=pb.bfloat16), "c": np.float32(2)}
    save_safetensors(tmp_path / "x", arrays, {"format": "pt"})
    found = load_safetensors(tmp_path / "x")
    assert {name: x.dtype for name, x in found.items()} == {
        "a": np.int64,
        "b": pb.bfloat16,
        "c": np.float32,
    }
    np.testing.assert_array_equal(found["a"], arrays["a"])
    assert pb.train.safetensors.read_metadata(tmp_path / "x") == {"format": "pt"}
    with pytest.raises(ArgumentError, match="metadata are texts, and 'step' is 3"):
        save_safetensors(tmp_path / "x", arrays, {"step": 3})
    with pytest.raises(DTypeError, match="cannot be stored"):
        save_safetensors(tmp_path / "x", {"a": np.array(["text"])})
    with pytest.raises(ArgumentError, match="cannot be written"):
        save_safetensors(tmp_path / "absent" / "x", arrays)
    assert load_safetensors(tmp_path / "x").keys() == found.keys()
