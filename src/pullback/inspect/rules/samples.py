"""Samples that are mixed: `DAT04`."""

from __future__ import annotations

from collections.abc import Iterator

from pullback.inspect.findings import Finding, Severity, Threshold
from pullback.inspect.mixing import LEAKED
from pullback.inspect.probe import Probe
from pullback.inspect.rules.objective import is_error
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.ir.graph import Node, needed_nodes
from pullback.ops.pointwise import Subtract
from pullback.ops.reduce import Reduction


class DAT04(Check):
    """The output of a sample changes when another sample of the batch does.

    The first sample was replaced, the network evaluated again, and the rows of the others
    compared. Reshaping in the wrong order, a softmax over the batch axis or a transposition mix
    samples, and so does what is divided by a sum or a largest value of the batch, a mean of the
    batch that is added, one mean of a whole array. The statistics of batch normalisation, feature
    by feature, are no leak, and neither are neighbours that the data name: an adjacency matrix of
    the samples, their places in a list of edges.
    """

    id = "DAT04"
    title = "samples that leak into each other"
    severity = Severity.FAIL
    fix = "keep axis 0 for the samples: permute_dims before reshape, softmax and sums over others"
    intended = "a comment on the line: # intended: DAT04 contrastive"
    source = "Karpathy's recipe, torchtest2, TheDeepChecker"
    change = Threshold(LEAKED, "relative change above", "torchtest2")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        found = seen.leak
        if found is not None:
            yield cls.found(
                f"samples leak into each other: first in {found.node.op.name}",
                found.node.site,
                why=f"sample 0 was replaced, and other rows moved by {found.change:.2g} of the "
                "largest output",
                numbers={"change": found.change},
            )
            return
        node = _folded(seen.probe)
        if node is not None:
            yield cls.found(
                "one prediction for all samples: those of the batch were added up",
                node.site,
                why="it is compared with the targets of each of them",
                numbers={"batch": seen.probe.batch},
            )


def _folded(probe: Probe) -> Node | None:
    """The reduction over the batch of a prediction that the targets of each sample are taken from.

    An error (y - p)² where p has no row for each sample, although what it is made of had.
    """
    if probe.batch < 2:
        return None
    for node in probe.nodes:
        if not isinstance(node.op, Subtract) or not is_error(probe, node):
            continue
        for p, y in (node.inputs, reversed(node.inputs)):
            is_target = y in probe.fed and y not in probe.learnt
            if not is_target or y.shape[:1] != (probe.batch,) or p not in probe.learnt & probe.fed:
                continue
            if p.size * probe.batch != y.size or p.ndim == 0:
                continue
            for n in reversed(needed_nodes(probe.nodes, [p])):
                rows = isinstance(n.op, Reduction) and 0 in n.op.axes
                if rows and n.inputs[0].shape[0] == probe.batch:
                    return n
    return None
