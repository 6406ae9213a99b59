"""Choices: read, merged, written, and read again as they were."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError
from pullback.train import config, models, optimizers
from pullback.train.images import DigitsTask, FolderTask
from pullback.train.session import chosen
from pullback.train.texts import TextTask


def test_a_later_layer_has_the_last_word_key_by_key():
    merged = config.merged({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"b": {"z": 4}})
    assert merged == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}


def test_steps_and_epochs_replace_each_other():
    merged = config.merged({"training": {"epochs": 3}}, {"training": {"steps": 9}})
    assert merged == {"training": {"steps": 9}}


@pytest.mark.parametrize("text", ["plain", 'a "quote"', "back\\slash", "\n\t\x01\x7f", "ü → 𝛅", ""])
def test_toml_is_read_back(text):
    table = {"text": text, "list": [text, "b"], "int": 3, "float": 1e-5, "flag": True, "big": 1e300}
    written = config.to_toml(text, {"section": table, "empty": {}})
    assert tomllib.loads(written) == {"source": text, "section": table, "empty": {}}


def test_all_choices_of_a_run_are_written_and_make_the_same_run(tmp_path):
    options = {"model": {"name": "mlp"}, "training": {"steps": 7}, "optimizer": {"lr": 0.5}}
    choices = chosen("digits", {}, options)
    (tmp_path / "config.toml").write_text(choices.toml())
    source, file = config.read_toml(tmp_path / "config.toml")
    again = chosen(source, file, {})
    assert again.sections() == choices.sections()
    assert (again.training.steps, again.training.epochs, again.optimizer.lr) == (7, None, 0.5)


def test_defaults_of_another_network_or_optimiser_do_not_leak():
    options = {"model": {"name": "mlp"}, "optimizer": {"name": "sgd", "lr": 0.1}}
    choices = chosen("digits", {}, options)
    assert choices.optimizer == optimizers.OptimizerChoice(name="sgd", lr=0.1)
    assert choices.model == models.MLPChoice(width=128, depth=2)


@pytest.mark.parametrize("name", list(optimizers.OPTIMIZERS))
def test_every_optimiser_is_built_from_its_section(name):
    choice = optimizers.OptimizerChoice.parse({"name": name, "lr": 0.1})
    assert optimizers.OptimizerChoice.parse(choice.plain()) == choice
    for schedule in ({}, {"schedule": "cosine"}, {"schedule": "cosine", "warmup": 0.2}):
        made = optimizers.OptimizerChoice.parse({"name": name, "lr": 0.1, **schedule}).build(10)
        params = {"w": np.ones((2, 2), np.float32)}
        updates, _ = made.update(params, made.init(params), params)
        assert updates["w"].shape == (2, 2)


def test_the_rate_rises_and_falls():
    table = {"name": "sgd", "lr": 1.0, "schedule": "cosine", "warmup": 0.1, "end_lr": 0.25}
    made = optimizers.OptimizerChoice.parse(table).build(100)
    params = np.float32(0.0)
    state, rates = made.init(params), []
    for _ in range(101):
        updates, state = made.update(np.float32(1.0), state, params)
        rates.append(-float(updates))
    np.testing.assert_allclose([rates[0], rates[5], rates[10], rates[100]], [0, 0.5, 1, 0.25])


def test_only_matrices_decay():
    table = {"name": "adamw", "lr": 1.0, "weight_decay": 0.5, "decay_only_matrices": True}
    made = optimizers.OptimizerChoice.parse(table).build(10)
    params = {"w": np.ones((2, 2), np.float32), "b": np.ones(2, np.float32)}
    grads = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    updates, _ = made.update(grads, made.init(params), params)
    assert updates["b"].tolist() == [0, 0]
    assert updates["w"].tolist() == [[-0.5, -0.5]] * 2


def test_a_near_key_is_named():
    with pytest.raises(ArgumentError, match="did you mean 'batch_size'"):
        config.parse(config.Training, "training", {"epochs": 1, "batchsize": 3})


# ---- networks -------------------------------------------------------------------------------


def test_2c2d_is_the_network_of_deepobs():
    model = models.parse_model({"name": "2c2d"}).build((1, 28, 28), 10, key=pb.random.key(0))
    # 5·5·1·32 + 32, 5·5·32·64 + 64, 7·7·64·1024 + 1024, 1024·10 + 10
    assert model.parameter_count == 832 + 51264 + 3212288 + 10250
    weights = model.hidden.weight.numpy()
    assert np.abs(weights).max() <= 0.1
    # A normal distribution cut at two deviations has 0.8796 of its deviation.
    np.testing.assert_allclose(weights.std(), 0.05 * 0.87963, rtol=0.01)
    for layer in (*model.convolutions, model.hidden, model.head):
        np.testing.assert_array_equal(layer.bias.numpy(), np.float32(0.05))
    assert model(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_gpt_has_the_size_of_nanogpts():
    model = models.parse_model({"name": "gpt"}).build((), 65, key=pb.random.key(0))
    # nanoGPT counts 0.80 million without the places: 4 blocks of 12 · 128², 9 norms, 65 rows.
    assert model.parameter_count == 4 * 12 * 128**2 + 9 * 128 + 65 * 128 + 64 * 128
    tokens = np.arange(20).reshape(2, 10)
    whole = model(tokens).numpy()
    assert whole.shape == (2, 10, 65)
    np.testing.assert_allclose(model(tokens[:, :4]).numpy(), whole[:, :4], rtol=1e-4, atol=1e-6)


def test_gpt_starts_with_weights_that_fit_its_width():
    def deviations(**choice):
        model = models.parse_model({"name": "gpt", **choice}).build((), 65, key=pb.random.key(0))
        block = model.blocks[2]
        layers = (block.attention.query, block.attention.output, block.expand, block.contract)
        return [layer.weight.numpy().std() for layer in layers], model.tokens.weight.numpy().std()

    shrink = 1 / np.sqrt(2 * 4)
    found, embedding = deviations()
    expected = np.array([1, shrink, 1, shrink / 2]) / np.sqrt(128)  # `contract` has 512 inputs
    np.testing.assert_allclose(found, expected, rtol=0.02)
    np.testing.assert_allclose(embedding, 0.02, rtol=0.02)
    found, _ = deviations(init_std=0.02)  # GPT-2's
    np.testing.assert_allclose(found, [0.02, 0.02 * shrink, 0.02, 0.02 * shrink], rtol=0.02)
    with pytest.raises(ArgumentError, match=r"model\.init_std is above 0"):
        deviations(init_std=0.0)


@pytest.mark.parametrize("name", ["cnn", "gpt"])
def test_dropout_acts_in_training_alone(name):
    choice = models.parse_model({"name": name, "dropout": 0.5})
    shape, x = ((), np.arange(8)[None]) if name == "gpt" else ((1, 8, 8), np.ones((2, 1, 8, 8)))
    model = choice.build(shape, 10, key=pb.random.key(0))
    used = [models.apply(model, x).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*used)
    trained = [models.apply(model, x, pb.random.key(i)).numpy() for i in range(2)]
    assert not np.allclose(*trained)


def test_an_optimiser_that_needs_the_loss_of_all_data_is_none_of_a_run():
    with pytest.raises(ArgumentError, match="another batch in each step") as caught:
        optimizers.OptimizerChoice.parse({"name": "lbfgs"})
    assert caught.value.hint.startswith("from Python, pb.optim.lbfgs is given the loss of all data")


# ---- the examples ---------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_every_section_of_the_examples_is_understood(path):
    _, file = config.read_toml(path)
    kinds = {"mlp": DigitsTask, "cnn": DigitsTask, "2c2d": FolderTask, "gpt": TextTask}
    kind = kinds[file["model"]["name"]]
    config.parse(kind.data_choices, "data", file.get("data", {}))
    models.parse_model(file["model"])
    optimizers.OptimizerChoice.parse(file["optimizer"])
    config.parse(config.Training, "training", file["training"])
    config.parse(config.Samples, "samples", file.get("samples", {}))


def test_the_example_of_digits_is_what_the_command_does_by_itself():
    source, file = config.read_toml(EXAMPLES / "digits.toml")
    assert chosen(source, file, {}).sections() == chosen("digits", {}, {}).sections()


def test_the_example_of_a_text_is_what_the_command_does_by_itself(tmp_path):
    (tmp_path / "t.txt").write_text("to be or not to be\n" * 100)
    _, file = config.read_toml(EXAMPLES / "tinyshakespeare.toml")
    told = chosen(str(tmp_path / "t.txt"), {}, {}).sections()
    told["optimizer"] |= {"warmup": 100, "b1": 0.9}  # 0.05 of 2,000 steps; Adam's own
    told["samples"]["length"] = 500
    assert chosen(str(tmp_path / "t.txt"), file, {}).sections() == told
