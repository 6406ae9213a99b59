"""The page: self-contained, complete, escaped, and placed without overlaps."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import pullback as pb
from pullback.inspect.seeing.drawing import Spacing, draw

GENERATOR = np.random.default_rng(5)


def deep(weights, x):
    h = x
    for W in weights:
        h = h + pb.tanh(W @ h)
    return pb.sum(h * h)


def page_of(f, *args):
    text = pb.backprop(f, *args).to_html()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return text, json.loads(data[1])


@pytest.mark.parametrize("depth", [3, 30, 75])
def test_one_box_for_each_value(depth):
    weights = list(GENERATOR.normal(size=(depth, 4, 4)) * 0.3)
    text, data = page_of(deep, weights, np.ones(4))
    assert len(data["nodes"]) == text.count('<g class="box') == 4 * depth + 3
    assert text.count('<g class="edge') == len({tuple(edge) for edge in data["edges"]})


def test_nothing_is_fetched_from_anywhere():
    text, _ = page_of(lambda x: pb.sum(x * x), np.ones(3))
    assert re.findall(r'(?:src|href)="[^"]*"|url\(http|@import|https?://', text) == []


def test_the_page_is_well_formed():
    class Balanced(HTMLParser):
        VOID = frozenset({"meta", "br", "link"})

        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attributes):
            if tag not in self.VOID:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    text, _ = page_of(lambda x: pb.sum(pb.exp(x)), np.ones(3))
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []


def test_names_of_the_user_are_escaped():
    text, data = page_of(lambda p: pb.sum(p["</script><b>&"]), {"</script><b>&": np.ones(3)})
    assert "<b>&" not in text.replace("&lt;b&gt;", "").replace("<b>", "", 0).split("<tbody>")[0]
    assert text.count("</script>") == 2
    assert data["nodes"][0]["name"] == "p['</script><b>&']"


def test_a_node_tells_its_rule_its_numbers_and_its_line():
    def loss(x):
        y = pb.sigmoid(x)
        return pb.sum(y * y)

    _, data = page_of(loss, np.array([0.0, 1.0]))
    y = next(node for node in data["nodes"] if node["name"] == "y")
    assert y["equation"] == "y = σ(x)"
    assert y["passes"] == [{"to": "x", "node": 0, "rule": "δ_y ⊙ y ⊙ (1 − y)"}]
    assert y["value"]["numbers"] == [["0.5", "0.73106"]]
    assert y["site"]["source"] == ["y = ", "pb.sigmoid(x)", ""]
    assert "test_page.py" in y["site"]["place"]
    assert [part["rule"] for part in y["contributions"]] == ["δ_v1 ⊙ y", "δ_v1 ⊙ y"]


def test_large_arrays_are_summarised():
    _, data = page_of(lambda x: pb.sum(x * x), np.ones((20, 20)))
    x = data["nodes"][0]
    assert "numbers" not in x["value"]
    assert x["delta"]["facts"] == {"min": "2", "mean": "2", "max": "2", "norm": "40", "zeros": "0"}


def test_nan_and_infinity_are_visible():
    text, data = page_of(lambda x: pb.sum(pb.log(x)), np.array([0.0, -1.0, 2.0]))
    assert 'role="alert">NaN or infinity in x, v1, L<' in text
    assert text.count("broken") > 3
    assert data["nodes"][0]["delta"]["broken"] == 1


def test_written_to_a_file_and_shown_in_a_notebook(tmp_path):
    record = pb.backprop(lambda x: pb.sum(x * x), np.ones(3))
    text = record.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    assert record._repr_html_().startswith("<iframe srcdoc=")
    assert repr(record).startswith("Backprop of <lambda>: L = 3")


# ---- drawing --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_boxes_do_not_overlap_and_edges_point_down(seed):
    generator = np.random.default_rng(seed)
    count = 40
    edges = sorted(
        {
            (int(tail), head)
            for head in range(1, count)
            for tail in generator.integers(0, head, generator.integers(0, 3))
        }
    )
    spacing = Spacing()
    drawing = draw(count, edges, spacing)
    for a, b in itertools.combinations(drawing.centers.values(), 2):
        assert abs(a[0] - b[0]) >= spacing.width - 1e-6 or abs(a[1] - b[1]) >= spacing.height
    for tail, head in edges:
        assert drawing.centers[tail][1] < drawing.centers[head][1]
        assert drawing.paths[tail, head][0] == drawing.centers[tail]
    for x, y in drawing.centers.values():
        assert spacing.width / 2 <= x <= drawing.width - spacing.width / 2
        assert y <= drawing.height - spacing.height / 2
    assert draw(count, edges, spacing) == drawing


def test_an_empty_and_a_single_drawing():
    assert draw(0, [], Spacing()).centers == {}
    assert len(draw(1, [], Spacing()).centers) == 1
