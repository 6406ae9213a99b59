"""What layers say when they are built or called wrongly: what, on which line, what to do."""

from __future__ import annotations

import traceback

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback.errors import ArgumentError, OutOfRangeError, PullbackError, ShapeError

nn = pb.nn
KEY = pb.random.key(0)
X = np.ones((2, 5, 8), np.float32)
IMAGES = np.ones((2, 3, 8, 8), np.float32)


def conv_of_other_channels():
    nn.Conv2d(4, 6, 3, key=KEY)(IMAGES)


def conv_groups_do_not_divide():
    nn.Conv2d(4, 6, 3, groups=3, key=KEY)


def conv_size_below_one():
    nn.Conv2d(4, 0, 3, key=KEY)


def linear_size_is_no_integer():
    nn.Linear(4, 2.5, key=KEY)


def linear_of_other_features():
    nn.Sequential(nn.Linear(8, 4, key=KEY), nn.relu, nn.Linear(8, 4, key=KEY))(X)


def dropout_without_train():
    nn.Dropout(0.1)(X)


def dropout_without_key():
    nn.Dropout(0.1)(X, train=True)


def dropout_of_everything():
    nn.Dropout(1.0)


def sequential_without_train():
    nn.Sequential(nn.Linear(8, 4, key=KEY), nn.Dropout(0.1))(X)


def sequential_without_state():
    nn.Sequential(nn.Conv2d(3, 4, 3, key=KEY), nn.BatchNorm(4))(IMAGES, train=True)


def sequential_of_a_layer_with_two_results():
    nn.Sequential(nn.LSTM(8, 4, key=KEY), nn.Linear(4, 2, key=KEY))(X)


def sequential_of_no_layer():
    nn.Sequential(nn.Linear(8, 4, key=KEY), 3)


def residual_of_other_shape():
    nn.ResidualBlock(nn.Linear(8, 4, key=KEY))(X)


def batch_norm_without_state():
    nn.BatchNorm(3)(IMAGES, train=True)


def batch_norm_without_train():
    norm = nn.BatchNorm(3)
    norm(IMAGES, norm.initial_state())


def batch_norm_of_one_number():
    norm = nn.BatchNorm(3)
    norm(np.ones((1, 3), np.float32), norm.initial_state(), train=True)


def batch_norm_of_other_channels():
    norm = nn.BatchNorm(4)
    norm(IMAGES, norm.initial_state(), train=True)


def group_norm_does_not_divide():
    nn.GroupNorm(2, 3)


def layer_norm_of_other_size():
    nn.LayerNorm(4)(X)


def embedding_of_no_such_row():
    nn.Embedding(5, 4, key=KEY)(np.array([1, 5]))


def heads_do_not_divide():
    nn.MultiHeadAttention(8, 3, key=KEY)


def heads_do_not_share():
    nn.MultiHeadAttention(8, 4, kv_heads=3, key=KEY)


def rotary_of_odd_heads():
    nn.MultiHeadAttention(6, 2, rotary_base=10000.0, key=KEY)


def cache_without_causal():
    layer = nn.MultiHeadAttention(8, 2, key=KEY)
    layer(X, cache=layer.initial_cache(8, (2,)))


def cache_of_another_batch():
    layer = nn.MultiHeadAttention(8, 2, causal=True, key=KEY)
    layer(X, cache=layer.initial_cache(8))


def cache_is_full():
    layer = nn.MultiHeadAttention(8, 2, causal=True, key=KEY)
    layer(X, cache=layer.initial_cache(4, (2,)))


def mask_is_no_bool():
    nn.MultiHeadAttention(8, 2, key=KEY)(X, mask=np.ones((5, 5)))


def block_without_train():
    nn.TransformerBlock(8, 2, dropout=0.1, key=KEY)(X)


def block_option_that_is_none():
    nn.TransformerBlock(8, 2, casual=True, key=KEY)


def lstm_of_a_vector():
    nn.LSTM(8, 4, key=KEY)(X[0, 0])


def lstm_state_of_another_batch():
    layer = nn.LSTM(8, 4, key=KEY)
    layer(X, layer.initial_state((3,)))


def pooling_of_a_matrix():
    nn.MaxPool2d(2)(np.ones(3, np.float32))


def freeze_of_no_path():
    nn.freeze(nn.MLP(4, 2, 3, 1, key=KEY), "layer[0]")


def freeze_of_no_array():
    nn.freeze(nn.MLP(4, 2, 3, 1, key=KEY), lambda model: model.activation)


def freeze_in_a_dict():
    nn.freeze({"weight": X}, "*")


def mask_of_another_structure():
    model = nn.MLP(4, 2, 3, 1, key=KEY)
    pb.optim.masked(pb.optim.sgd(0.1), {"layers": True}).init(model)


def mask_of_arrays():
    model = nn.Linear(4, 2, key=KEY)
    pb.optim.masked(pb.optim.sgd(0.1), model).init(model)


def gain_of_softmax_of_nothing():
    nn.init.gain(lambda x: x * 0)


CASES = {
    conv_of_other_channels: ShapeError,
    conv_groups_do_not_divide: ArgumentError,
    conv_size_below_one: ArgumentError,
    linear_size_is_no_integer: ArgumentError,
    linear_of_other_features: ShapeError,
    dropout_without_train: ArgumentError,
    dropout_without_key: ArgumentError,
    dropout_of_everything: ArgumentError,
    sequential_without_train: ArgumentError,
    sequential_without_state: ArgumentError,
    sequential_of_a_layer_with_two_results: ArgumentError,
    sequential_of_no_layer: ArgumentError,
    residual_of_other_shape: ShapeError,
    batch_norm_without_state: ArgumentError,
    batch_norm_without_train: ArgumentError,
    batch_norm_of_one_number: ShapeError,
    batch_norm_of_other_channels: ShapeError,
    group_norm_does_not_divide: ArgumentError,
    layer_norm_of_other_size: ShapeError,
    embedding_of_no_such_row: OutOfRangeError,
    heads_do_not_divide: ArgumentError,
    heads_do_not_share: ArgumentError,
    rotary_of_odd_heads: ArgumentError,
    cache_without_causal: ArgumentError,
    cache_of_another_batch: ShapeError,
    cache_is_full: OutOfRangeError,
    mask_is_no_bool: PullbackError,
    block_without_train: ArgumentError,
    lstm_of_a_vector: ShapeError,
    lstm_state_of_another_batch: ShapeError,
    pooling_of_a_matrix: ShapeError,
    freeze_of_no_path: ArgumentError,
    freeze_of_no_array: ArgumentError,
    freeze_in_a_dict: PullbackError,
    mask_of_another_structure: PullbackError,
    mask_of_arrays: ArgumentError,
    gain_of_softmax_of_nothing: ArgumentError,
}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


def test_the_texts(golden):
    texts = []
    for case, kind in CASES.items():
        with pytest.raises(kind) as caught:
            case()
        message = f"{type(caught.value).__name__}: {without_places(str(caught.value))}"
        texts.append(f"---- {case.__name__}\n{message.rstrip()}\n")
    golden("errors/layers", "\n".join(texts))


@every_case
def test_only_the_users_lines_are_shown(case):
    with pytest.raises(PullbackError) as caught:
        case()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert all("src/pullback" not in file for file in files)
    assert caught.value.site.frames[0].file.endswith("test_layer_messages.py")


def test_an_option_that_attention_has_not():
    with pytest.raises(TypeError, match="casual"):
        block_option_that_is_none()
