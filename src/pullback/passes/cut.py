"""The minimum cut of a network, by flow along shortest paths (Dinic 1970)."""

from __future__ import annotations

from collections import deque

UNLIMITED = 1 << 60
FAR = -1
"""The distance of a node that nothing leads to."""


class Network:
    """Directed edges with whole capacities; an edge and its reverse have the numbers 2i, 2i + 1."""

    def __init__(self) -> None:
        self.edges: list[list[int]] = []
        self.heads: list[int] = []
        self.spare: list[int] = []

    def node(self) -> int:
        self.edges.append([])
        return len(self.edges) - 1

    def connect(self, tail: int, head: int, capacity: int) -> None:
        edge = len(self.heads)
        self.edges[tail].append(edge)
        self.edges[head].append(edge + 1)
        self.heads += head, tail
        self.spare += capacity, 0

    def near(self, source: int, sink: int) -> set[int]:
        """The nodes on the source's side of the cut that lets the least through."""
        distance = self._distances(source)
        while distance[sink] != FAR:
            self._saturate(source, sink, distance)
            distance = self._distances(source)
        return {node for node, steps in enumerate(distance) if steps != FAR}

    def _distances(self, source: int) -> list[int]:
        edges, heads, spare = self.edges, self.heads, self.spare
        distance, waiting = [FAR] * len(edges), deque([source])
        distance[source] = 0
        while waiting:
            node = waiting.popleft()
            for edge in edges[node]:
                head = heads[edge]
                if spare[edge] and distance[head] == FAR:
                    distance[head] = distance[node] + 1
                    waiting.append(head)
        return distance

    def _saturate(self, source: int, sink: int, distance: list[int]) -> None:
        """Send flow along shortest paths until each has a full edge."""
        edges, heads, spare = self.edges, self.heads, self.spare
        tried = [0] * len(edges)
        path: list[int] = []
        node = source
        while True:
            if node == sink:
                self._send(path)
                path, node = [], source
            elif tried[node] < len(edges[node]):
                edge = edges[node][tried[node]]
                head = heads[edge]
                if spare[edge] and distance[head] == distance[node] + 1:
                    path.append(edge)
                    node = head
                else:
                    tried[node] += 1
            elif path:
                node = heads[path.pop() ^ 1]
                tried[node] += 1
            else:
                return

    def _send(self, path: list[int]) -> None:
        room = min(self.spare[edge] for edge in path)
        for edge in path:
            self.spare[edge] -= room
            self.spare[edge ^ 1] += room
