"""The plots show what they are given, also in the corner cases of a run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from pullback.train import plots, report
from pullback.train.objectives import Baseline
from pullback.train.run import Run, Steps


def log(count=3, values=(1.0, 0.5)):
    table = np.tile(values, (count, 1))
    losses = [1.0 / (i + 1) for i in range(count)]
    return Steps(
        [f"p[{i}]" for i in range(len(values))], list(range(1, count + 1)), losses, table, table
    )


ROWS = [{"epoch": 1, "step": 2, "seconds": 0.1, "validation_loss": 0.5, "validation_accuracy": 0.4}]
CURVES = plots.Curves(
    part="validation",
    measured="test",
    unit="nats",
    score="accuracy",
    score_title="Accuracy",
    score_label="right (%)",
    scale=100.0,
    baselines=[Baseline("linear", {"loss": 0.7, "accuracy": 0.3})],
)


@pytest.mark.parametrize("draw", [plots.gradient_norms, plots.update_ratios])
@pytest.mark.parametrize("count", [1, 3, 700])
@pytest.mark.parametrize("values", [(1.0, 0.5), (0.0, 1e-12), (0.0, 0.0), (1.0, 1.0)])
def test_heat_maps_are_drawn_in_forward_order(draw, count, values):
    plot = draw(log(count, values))
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["p[0]", "p[1]"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert plot.png().startswith(b"\x89PNG")


def test_binning_is_the_geometric_mean():
    table = np.array([[1.0, 100.0, 4.0, 4.0]])
    np.testing.assert_allclose(plots._binned(table, 2), [[10.0, 4.0]])
    np.testing.assert_allclose(plots._binned(table, 10), table)


@pytest.mark.parametrize("count", [1, 2, 700])
def test_learning_curves_have_the_baselines_as_lines(count):
    plot = plots.learning_curves(log(count), ROWS, CURVES)
    left, right = plot.figure.axes
    assert [list(line.get_ydata()) for line in left.lines][-1] == [0.7, 0.7]
    assert [list(line.get_ydata()) for line in right.lines] == [[40.0], [30.0, 30.0]]
    assert plot.svg() == plots.learning_curves(log(count), ROWS, CURVES).svg()


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_of_few_and_many_classes(classes):
    table = (np.eye(classes, dtype=int) * 3).tolist()
    plot = plots.confusion_matrix(table, [f"class {i}" for i in range(classes)], "6 examples")
    assert len(plot.figure.axes[0].texts) == (classes if classes <= 20 else 0)
    assert plot.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 50])
def test_residuals(count):
    true = np.linspace(0, 1, count)
    assert plots.residuals(true, true + 0.1, "price", "test").png().startswith(b"\x89PNG")


def test_the_page_is_whole_escaped_and_alone(tmp_path):
    run = Run.begin(tmp_path / "run", "")
    page = report.Page(
        title="A & B",
        summary={"test accuracy": "50 %"},
        lines=[report.Line("network", {"loss": "0.1"}), report.Line("always <b>", {"loss": "2"})],
        measured="test",
        notes=["Data: <x>"],
        plots=[
            plots.learning_curves(log(), ROWS, CURVES),
            plots.confusion_matrix([[3, 0], [1, 2]], ["a", "b"], "6 test images"),
            plots.gallery("mistakes", "What went wrong.", np.zeros((3, 8, 8)), ["a", "b", "c"]),
        ],
        samples=["To be <script>alert(1)</script>"],
        sections={"": {"source": "x"}, "training": {"seed": 3}},
        rows=ROWS,
        footer=["pullback"],
    )
    report.write_report(run, page)
    text = (run.folder / "report.html").read_text()
    for piece in ("A &amp; B", "Data: &lt;x&gt;", "&lt;script&gt;", "40.00%", "training.seed"):
        assert piece in text
    assert text.count("<svg") == 3
    for absent in ("<script", "http-equiv", 'src="', 'href="http'):
        assert absent not in text
    found = {path.name for path in run.folder.glob("*.png")}
    assert found == {f"{plot.name}.png" for plot in page.plots}
