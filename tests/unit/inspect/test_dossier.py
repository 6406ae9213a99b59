"""The page of a report: one file, with the verdict, what there is to see, and every check."""

import json

import numpy as np

import pullback as pb
from pullback import inspect, nn
from pullback.inspect.course import BETWEEN, Course
from pullback.inspect.rules import RULES
from pullback.train.metrics import Names

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 8)).astype(np.float32)
Y = RNG.integers(0, 4, 64)


def residual(model, x, y):
    h = model["in"](x)
    for layer in model["blocks"]:
        h = h + 0.5 * nn.relu(layer(h))
    return nn.cross_entropy(model["out"](h), y)


def network():
    keys = pb.random.split(pb.random.key(0), 4)
    return {
        "in": nn.Linear(8, 16, key=keys[0]),
        "blocks": [nn.Linear(16, 16, key=k) for k in keys[1:3]],
        "out": nn.Linear(16, 4, key=keys[3]),
    }


def watched(steps, optimizer):
    step = pb.train.train_step(residual, optimizer)
    state = pb.train.TrainState.create(network(), optimizer)
    doctor = inspect.Doctor()
    doctor.begin(step, state)
    for _ in range(steps):
        state, metrics = step(state, X, Y)
        doctor.see(state, (X, Y), metrics)
    return doctor


def numbers_of(page):
    return json.loads(page.split('id="numbers">')[1].split("</script>")[0])


def test_a_doctor_writes_what_it_has_seen_as_one_page(tmp_path):
    doctor = watched(60, pb.optim.adam(3e-3))
    path = tmp_path / "run.html"
    doctor.to_html(path)
    page = path.read_text()
    assert [x.name for x in tmp_path.iterdir()] == ["run.html"]
    for outside in ("src=", "href=", "@import", "http://", "https://"):
        assert outside not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    titles = [x["title"] for view in numbers_of(page)["views"] for x in view["figures"]]
    assert titles[:3] == ["loss", "gradients", "how far a step moves"]
    assert "forward: what each layer gives" in titles
    assert titles[-1] == "who carries the gradient"
    assert all(f">{rule.id}</td>" in page for rule in RULES)
    assert "DAT05" in page.split("<h2>Findings")[0]  # on the card: one batch in each step
    losses = numbers_of(page)["views"][0]["figures"][0]["loss of the batch"]
    assert len(losses) == 60
    assert losses[0] > losses[-1]


def test_alarms_stand_at_their_step():
    doctor = watched(60, pb.optim.adam(3.0))
    views = numbers_of(doctor.report().page(inspect.showing.views_of(doctor._case, {20: "OPT01"})))
    assert views["views"][0]["figures"][0]["marks"] == [[20, "OPT01"]]
    assert "OPT01" in {x["rule"] for x in views["report"]["findings"]}


def test_the_page_of_preflight_says_what_was_looked_for():
    report = pb.preflight(network(), residual, (X, Y))
    page = report.page([inspect.signal_propagation(residual, network(), X, Y)])
    assert "Nothing wrong was found." in page
    assert ">SIG01</td>" in page
    assert ">OPT03</td>" not in page  # of a run
    assert page.count("<svg") == 2


class Told:
    """What a step tells of itself."""

    def __init__(self, i):
        self.loss, self.names = np.float32(1.0), Names(("w",))
        self.sizes = np.full((4, 1), float(i), np.float32)


def test_of_a_long_run_steps_between_are_kept_to_be_shown():
    course = Course()
    for i in range(1, 10_001):
        course.add(Told(i))
        if i % 50 == 0:
            course.remember()
    steps, sizes = course.noted()
    assert len(steps) <= 40 + BETWEEN + 1
    assert steps[:20] == tuple(range(1, 21))
    assert steps[-1] == 10_000
    assert (sizes[:, 0, 0] == steps).all()
    assert max(np.diff(steps[20:])) <= 1000
