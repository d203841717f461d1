"""Where the nodes, plates and edges of a model's graph go: Graphviz decides, by its `dot`.

Graphviz is asked for positions alone. It is given shapes of fixed size and no text, so it needs no
fonts, and answers alike on every machine; the drawing is ours. It comes in pygraphviz's wheel, in
this process, and knows no threads: one layout at a time.
"""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass, field

from .. import errors

_ONE_AT_A_TIME = threading.Lock()
LABEL_HEIGHT = 18  # of a plate's label, in points, as all lengths here
MARGIN = 12  # between a plate and what it holds


def _after_fork() -> None:
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = threading.Lock()  # whoever held it is not in this process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass
class Node:
    """What is drawn for a variable, or for several folded into one."""

    key: str  # a plain identifier
    names: list[str]
    label: str
    kind: str
    width: float = 44.0
    height: float = 44.0
    x: float = 0.0  # of its centre
    y: float = 0.0  # downwards

    def box(self) -> tuple[float, float, float, float]:
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h


@dataclass
class Plate:
    """A rectangle around nodes; a plate that cannot be one rectangle is several."""

    name: str
    label: str
    members: list[str]  # keys
    loop: bool = False
    label_width: float = 40.0
    inside: Plate | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass
class Picture:
    """Nodes, plates and edges with their places, from the upper left corner (0, 0)."""

    nodes: dict[str, Node]
    edges: list[tuple[str, str]]
    plates: list[Plate]
    chains: list[list[str]] = field(default_factory=list)  # keys that read from left to right
    below: set[str] = field(default_factory=set)  # keys to be put below what depends on them
    curves: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


def arrange(picture: Picture) -> None:
    """Give everything in a picture its place.

    >>> a, b = Node("a", ["a"], "a", "latent"), Node("b", ["b"], "b", "observed")
    >>> picture = Picture({"a": a, "b": b}, [("a", "b")], [Plate("rows", "rows: 3", ["b"])])
    >>> arrange(picture)
    >>> a.y < b.y, picture.plates[0].box[1] < b.y < picture.plates[0].box[3]
    (True, True)
    """
    crossing = _nest(picture.plates)
    if crossing and _arrange_crossed(picture, *crossing):
        return
    picture.plates = pieces(picture.plates) if crossing else picture.plates
    _nest(picture.plates)
    _place(picture)
    _crop(picture)


CROWDED = 400  # arrows: more than that, and only those count that no path of others implies


def thin(picture: Picture) -> int:
    """Leave out the arrows that a path of others implies, where there are very many; how many.

    >>> nodes = {key: Node(key, [key], key, "latent") for key in "abc"}
    >>> thin(Picture(nodes, [("a", "b"), ("b", "c"), ("a", "c")], []))
    0
    """
    if len(picture.edges) <= CROWDED:
        return 0
    order = {key: i for i, key in enumerate(picture.nodes)}
    parents: dict[str, list[str]] = {key: [] for key in order}
    for tail, head in picture.edges:
        if order[tail] < order[head]:
            parents[head].append(tail)
    above: dict[str, int] = {}  # a bit for each node from which a path leads here
    implied = set()
    for key, tails in parents.items():
        beyond = 0
        for tail in tails:
            beyond |= above[tail]
        implied |= {(tail, key) for tail in tails if beyond >> order[tail] & 1}
        above[key] = beyond | sum(1 << order[tail] for tail in tails)
    picture.edges = [edge for edge in picture.edges if edge not in implied]
    return len(implied)


# -- which plate lies in which ----------------------------------------------------------------


def _nest(plates: list[Plate]) -> tuple[Plate, Plate] | None:
    """Put each plate into the smallest that holds it; two that cross, if any do, are returned."""
    plates.sort(key=lambda plate: -len(plate.members))
    for i, plate in enumerate(plates):
        within = [p for p in plates[:i] if set(plate.members) <= set(p.members)]
        plate.inside = within[-1] if within else None
    for one, other in itertools.combinations(plates, 2):
        both = set(one.members) & set(other.members)
        if both and both != set(other.members):
            return one, other
    return None


def pieces(plates: list[Plate]) -> list[Plate]:
    """The plates as rectangles that nest: one that crosses another is drawn in pieces.

    >>> rows, columns = Plate("i", "i: 2", ["a", "y"]), Plate("j", "j: 3", ["b", "y"])
    >>> [(piece.name, piece.members) for piece in pieces([rows, columns])]
    [('i', ['a', 'y']), ('j', ['y']), ('j', ['b'])]
    """
    made: list[Plate] = []
    for plate in plates:
        waiting = [list(plate.members)]
        for other in [p for p in made if p.name != plate.name]:
            parts = []
            for members in waiting:
                both = [m for m in members if m in other.members]
                rest = [m for m in members if m not in other.members]
                holds_it = len(both) == len(other.members)
                parts += [members] if not both or not rest or holds_it else [both, rest]
            waiting = parts
        for members in waiting:
            made.append(Plate(plate.name, plate.label, members, plate.loop, plate.label_width))
    return made


# -- Graphviz ---------------------------------------------------------------------------------


def _place(picture: Picture, regions: list[list[str]] = ()) -> None:
    """Ask Graphviz; read its answer into the picture. `regions` are kept together, unframed."""
    try:
        import pygraphviz
    except ImportError as fault:
        raise errors.missing_package("pygraphviz", "the picture of a model") from fault
    text = _dot(picture, regions)
    with _ONE_AT_A_TIME:
        graph = pygraphviz.AGraph(string=text)
        try:
            graph.layout(prog="dot")
            _read(picture, graph)
        finally:
            graph.close()


def _dot(picture: Picture, regions: list[list[str]]) -> str:
    crowded = len(picture.edges) > CROWDED
    lines = [
        "digraph {",
        f"graph [ranksep=0.36, nodesep=0.3, splines={'line' if crowded else 'true'}"
        + (", nslimit=2, nslimit1=2, mclimit=0.2];" if crowded else "];"),
        'node [shape=ellipse, fixedsize=true, label=""];',
        "edge [arrowsize=0.7];",
    ]
    for node in picture.nodes.values():
        shape = "box" if node.kind in ("param", "factor") else "ellipse"
        size = f"width={node.width / 72:.4f}, height={node.height / 72:.4f}"
        lines.append(f"{node.key} [shape={shape}, {size}];")
    lines += _clusters(picture, None)
    for i, keys in enumerate(regions):
        lines.append(f'subgraph cluster_r{i} {{ margin={MARGIN}; label=""; {"; ".join(keys)}; }}')
    lines += [_dot_edge(picture, tail, head) for tail, head in picture.edges]
    for one, other in itertools.pairwise(picture.chains):
        joined = {*one, *other}
        if not any(
            tail in joined and head in joined and (tail in one) != (head in one)
            for tail, head in picture.edges
        ):
            lines.append(f"{one[0]} -> {other[0]} [style=invis];")  # a row for each
    return "\n".join([*lines, "}"])


def _dot_edge(picture: Picture, tail: str, head: str) -> str:
    ports = ["tailport=s"] if picture.nodes[tail].kind == "param" else []  # from the dot
    ports += ["headport=n"] if picture.nodes[head].kind == "factor" else []  # to the square
    if tail in picture.below:
        return f"{head} -> {tail} [dir=back];"
    return f"{tail} -> {head} [{', '.join(ports)}];"


def _clusters(picture: Picture, inside: Plate | None) -> list[str]:
    lines = []
    for i, plate in enumerate(picture.plates):
        if plate.inside is inside:
            width = f'WIDTH="{plate.label_width:.0f}" HEIGHT="{LABEL_HEIGHT - 8}"'
            cell = f'<TABLE BORDER="0" FIXEDSIZE="TRUE" {width}><TR><TD></TD></TR></TABLE>'
            lines.append(f"subgraph cluster_{i} {{ margin={MARGIN}; labelloc=b; label=<{cell}>;")
            lines += [f"{key};" for key in plate.members]
            lines += _clusters(picture, plate)
            lines.append("}")
    homes = {key: _home(picture, key) for chain in picture.chains for key in chain}
    for chain in picture.chains:
        if all(homes[key] is inside for key in chain):
            lines.append(f"{{ rank=same; {'; '.join(chain)}; }}")
    return lines


def _home(picture: Picture, key: str) -> Plate | None:
    """The innermost plate around a node."""
    around = [plate for plate in picture.plates if key in plate.members]
    return min(
        around, key=lambda plate: (len(plate.members), -picture.plates.index(plate)), default=None
    )


def _read(picture: Picture, graph) -> None:
    height = float(graph.graph_attr["bb"].split(",")[3])

    def point(text: str) -> tuple[float, float]:
        x, y = text.split(",")
        return float(x), height - float(y)

    for key, node in picture.nodes.items():
        node.x, node.y = point(graph.get_node(key).attr["pos"])
    for tail, head in picture.edges:
        ends = (head, tail) if tail in picture.below else (tail, head)
        picture.curves[tail, head] = _curve(graph.get_edge(*ends).attr["pos"], point)
    waiting = [graph]
    while waiting:
        for part in waiting.pop().subgraphs():
            waiting.append(part)
            number = (part.name or "").removeprefix("cluster_")
            if number.isdecimal():
                left, low, right, high = map(float, part.graph_attr["bb"].split(","))
                picture.plates[int(number)].box = (left, height - high, right, height - low)


def _curve(text: str, point) -> list[tuple[float, float]]:
    """An edge's Bezier points from its tail on, and after them the arrow's tip."""
    parts = text.replace("\\\n", "").split()
    tips = [part[2:] for part in parts if part[0] in "es"]
    points = [point(part) for part in parts if part[0] not in "es"]
    if parts[0].startswith("s"):
        points.reverse()
    return [*points, point(tips[0]) if tips else points[-1]]


# -- plates that cross ----------------------------------------------------------------------------


def _arrange_crossed(picture: Picture, one: Plate, other: Plate) -> bool:
    """Two plates that cross, as two rectangles that overlap in what they share.

    What is in one alone goes to the left of that, what is in the other alone to the right. False,
    and the picture as it was, where there are other plates, or where this would frame a node that
    is not the plate's.
    """
    if len(picture.plates) > 2:
        return False
    both = [key for key in one.members if key in other.members]
    left = [key for key in one.members if key not in both]
    right = [key for key in other.members if key not in both]
    plates, picture.plates = picture.plates, []
    chains, picture.chains = picture.chains, []
    _place(picture, [left, both, right])
    picture.plates, picture.chains = plates, chains
    gap = 2 * MARGIN + 6
    shared = _around(picture, both)
    _shift(picture, left, min(0.0, shared[0] - gap - _around(picture, left)[2]))
    _shift(picture, right, max(0.0, shared[2] + gap - _around(picture, right)[0]))
    # The labels lie below, one to the left and one to the right: each needs its own ground.
    for plate, outset in ((one, 0), (other, 9)):
        x0, y0, x1, y1 = _around(picture, plate.members)
        wider = max(0.0, plate.label_width + 12 - (x1 - x0))
        low = y1 + MARGIN + LABEL_HEIGHT + outset
        plate.box = (x0 - MARGIN - wider, y0 - MARGIN - outset, x1 + MARGIN, low)
    for plate in (one, other):
        if any(
            _meet(plate.box, n.box()) for k, n in picture.nodes.items() if k not in plate.members
        ):
            return False
    _crop(picture)
    return True


def _around(picture: Picture, keys: list[str]) -> tuple[float, float, float, float]:
    boxes = [picture.nodes[key].box() for key in keys]
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _meet(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shift(picture: Picture, keys: list[str], by: float) -> None:
    """Move nodes sideways; their edges become straight."""
    for key in keys:
        picture.nodes[key].x += by
    for tail, head in picture.edges if by else ():
        if tail in keys or head in keys:
            a, b = picture.nodes[tail], picture.nodes[head]
            start, tip = _rim(a, b), _rim(b, a)
            back = _towards(tip, start, 7)
            third = [_between(start, back, t) for t in (1 / 3, 2 / 3)]
            picture.curves[tail, head] = [start, *third, back, tip]


def _rim(node: Node, other: Node) -> tuple[float, float]:
    """Where the line from a node's centre to another's leaves its ellipse."""
    dx, dy = other.x - node.x, other.y - node.y
    reach = ((2 * dx / node.width) ** 2 + (2 * dy / node.height) ** 2) ** 0.5 or 1.0
    return node.x + dx / reach, node.y + dy / reach


def _towards(start, end, length: float) -> tuple[float, float]:
    whole = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 or 1.0
    return _between(start, end, length / whole)


def _between(start, end, t: float) -> tuple[float, float]:
    return start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])


def _crop(picture: Picture) -> None:
    """Move everything into the upper left corner, and measure the whole."""
    boxes = [node.box() for node in picture.nodes.values()] + [p.box for p in picture.plates]
    points = [(x, y, x, y) for curve in picture.curves.values() for x, y in curve]
    x0, y0, x1, y1 = zip(*boxes, *points, strict=True) if boxes else ((0,), (0,), (0,), (0,))
    dx, dy = 2 - min(x0), 2 - min(y0)
    for node in picture.nodes.values():
        node.x, node.y = node.x + dx, node.y + dy
    for plate in picture.plates:
        a, b, c, d = plate.box
        plate.box = (a + dx, b + dy, c + dx, d + dy)
    for edge, curve in picture.curves.items():
        picture.curves[edge] = [(x + dx, y + dy) for x, y in curve]
    picture.width, picture.height = max(x1) + dx + 2, max(y1) + dy + 2
