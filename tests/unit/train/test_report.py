"""The plots show what they are given, also in the corner cases of a run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from pullback.train import Run, report


def small_run(folder, steps=3, gradients=(1.0, 0.5)):
    run = Run(folder, "digits", {"lr": 0.1, "<b>": "<script>"})
    for i in range(steps):
        run.step(
            step=i + 1, loss=1.0 / (i + 1), **{f"grad p[{k}]": g for k, g in enumerate(gradients)}
        )
    run.epoch(
        epoch=1,
        step=steps,
        seconds=0.1,
        train_loss=0.5,
        train_accuracy=0.5,
        validation_loss=0.6,
        validation_accuracy=0.4,
    )
    return run


@pytest.mark.parametrize("steps", [1, 3, 700])
@pytest.mark.parametrize("gradients", [(1.0, 0.5), (0.0, 1e-12), (0.0, 0.0), (1.0, 1.0)])
def test_gradient_norms_are_drawn_in_forward_order(tmp_path, steps, gradients):
    plot = report.gradient_norms(small_run(tmp_path, steps, gradients))
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["p[0]", "p[1]"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert plot.png().startswith(b"\x89PNG")


def test_binning_is_the_geometric_mean():
    table = np.array([[1.0, 100.0, 4.0, 4.0]])
    np.testing.assert_allclose(report._binned(table, 2), [[10.0, 4.0]])
    np.testing.assert_allclose(report._binned(table, 10), table)


def test_the_page_is_whole_escaped_and_alone(tmp_path):
    run = small_run(tmp_path)
    plots = [
        report.learning_curves(run),
        report.confusion_matrix([[3, 0], [1, 2]], "6 test images"),
        report.gallery("mistakes", "What went wrong.", np.zeros((3, 8, 8)), ["a", "b", "c"]),
    ]
    report.write_report(run, "A & B", {"test accuracy": "50 %"}, plots, ["Data: <x>"])
    page = (tmp_path / "report.html").read_text()
    for piece in ("A &amp; B", "Data: &lt;x&gt;", "&lt;script&gt;", "40.00 %", "test accuracy"):
        assert piece in page
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http-equiv" not in page
    assert 'src="' not in page
    assert {p.name for p in tmp_path.glob("*.png")} == {f"{plot.name}.png" for plot in plots}


def test_the_same_numbers_give_the_same_plot(tmp_path):
    run = small_run(tmp_path)
    assert report.learning_curves(run).svg() == report.learning_curves(run).svg()
