"""The graph of a model: its relations as plain data, and its picture in plate notation."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from typing import Any

from .. import errors
from ..distributions import constraints
from .dependencies import Statement, Survey, survey
from .drawing import INK, measure, measure_plate, plain, short, svg
from .layout import Node, Picture, Plate, arrange, pieces, thin


def get_model_relations(
    model: Callable,
    model_args: tuple | None = None,
    model_kwargs: dict | None = None,
    include_deterministic: bool = False,
) -> dict[str, Any]:
    """A model's variables, parameters and plates, and how they hang together.

    The model runs once; parameters and random streams are left as they were.

    Args:
        model: any model, under handlers or not.
        model_args, model_kwargs: what to call it with.
        include_deterministic: let others depend on `deterministic` sites and those with a Delta
            distribution, rather than on what these are computed from.

    Returns:
        A dictionary, every list in the order of the run: `sample_sample` gives each site those it
        depends on, `sample_param` each site its parameters, `sample_dist` each site the name of its
        distribution ("Deterministic" where it has none), `param_constraint` each parameter its
        constraint in words, `plate_sample` each plate its sites; `observed` lists the sites whose
        value is given, `deterministic` ones included, as Pyro does.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     noise = pplkit.param("noise", torch.tensor(1.0))
    ...     with pplkit.plate("data", len(data)):
    ...         pplkit.sample("obs", dist.Normal(z, noise), obs=data)
    >>> found = get_model_relations(model, (torch.zeros(3),))
    >>> found["sample_sample"], found["sample_param"]
    ({'z': [], 'obs': ['z']}, {'z': [], 'obs': ['noise']})
    >>> found["plate_sample"], found["observed"]
    ({'data': ['obs']}, ['obs'])
    """
    found = survey(model, model_args, model_kwargs)
    elided = set() if include_deterministic else found.computed()
    sites = found.of_type("sample", "deterministic")
    parents = {s.name: found.parents(s.name, elided) for s in sites}
    params = {s.name: s for s in found.of_type("param")}
    within: dict[str, list[str]] = {}
    for site in sites:
        for frame in site.plates:
            within.setdefault(frame.name, []).append(site.name)
    return {
        "sample_sample": {s: [n for n in names if n not in params] for s, names in parents.items()},
        "sample_param": {s: [n for n in names if n in params] for s, names in parents.items()},
        "sample_dist": {s.name: s.family for s in sites},
        "param_constraint": {name: str(p.constraint) for name, p in params.items()},
        "plate_sample": within,
        "observed": [s.name for s in sites if s.observed or s.type == "deterministic"],
    }


def render_model(
    model: Callable,
    model_args: tuple | list[tuple] | None = None,
    model_kwargs: dict | list[dict] | None = None,
    filename: str | os.PathLike | None = None,
    render_distributions: bool = False,
    render_params: bool = False,
    render_deterministic: bool = False,
) -> ModelGraph:
    """A model as a graph in plate notation: an arrow goes from what a variable depends on to it.

    Circles are variables, shaded where they are observed, half shaded where only some of their rows
    are. A box around them is a plate, with its name and size; a dashed box one that is looped over.
    A dot is a parameter, or all those of a module, a square a factor, a dashed circle a computed
    value. A long series of numbered variables is drawn as its first two, one for all those between,
    and its last. Two plates that cross overlap; where more do, one plate is drawn in several boxes
    of its name.

    The model runs once; parameters and random streams are left as they were. Without pygraphviz
    there is no picture, but structure and text.

    Args:
        model: any model, under handlers or not.
        model_args, model_kwargs: what to call it with; lists of these, to draw a model that sees
            more on one call than on another as one graph.
        filename: also save the picture there; the ending decides what as, as `ModelGraph.save`.
        render_distributions: write each variable's distribution below the picture, and each
            parameter's constraint.
        render_params: show the parameters.
        render_deterministic: show `deterministic` sites and those with a Delta distribution.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     with pplkit.plate("data", len(data)):
    ...         pplkit.sample("obs", dist.Normal(z, 0.5), obs=data)
    >>> render_model(model, (torch.zeros(3),))
    name  kind      distribution    depends on  plates
    z     latent    Normal(0, 1)
    obs   observed  Normal(z, 0.5)  z           data
    plate data: 3 rows
    """
    calls = _calls(model_args, model_kwargs)
    graph = ModelGraph.of(
        [survey(model, args, kwargs) for args, kwargs in calls],
        params=render_params,
        deterministic=render_deterministic,
        distributions=render_distributions,
    )
    if filename is not None:
        graph.save(filename)
    return graph


def _calls(args: Any, kwargs: Any) -> list[tuple]:
    """Positional and keyword arguments of each call."""
    many = [len(given) for given in (args, kwargs) if isinstance(given, list)]
    if not many:
        return [(args, kwargs)]
    if len(set(many)) > 1:
        raise errors.wrong_argument(
            "render_model", "model_kwargs=", kwargs, f"a list of {many[0]}, as model_args"
        )
    each_args = args if isinstance(args, list) else [args] * many[0]
    each_kwargs = kwargs if isinstance(kwargs, list) else [kwargs] * many[0]
    return list(zip(each_args, each_kwargs, strict=True))


class ModelGraph:
    """A model's graph: what there is, as plain data, and its picture.

    In a notebook it shows itself; printed, it is a table of the same content.

    Attributes:
        nodes: by name, in the order of the run: `kind` ("latent", "observed", "partly observed",
            "deterministic", "factor", "param"), `distribution` (its family's name), `arguments`
            (names, plain numbers or `f(names)`, by the distribution's argument), `constraint` (in
            words, of parameters) and `plates` (names, outermost first).
        edges: pairs of names, from what is depended on to what depends.
        plates: by name: `size`, `rows` (how many take part), `loop` (whether it is looped over) and
            `nodes`.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     x = pplkit.sample("x", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.5))
    >>> graph = render_model(model)
    >>> graph.edges, graph.nodes["y"]["kind"]
    ([('x', 'y')], 'observed')
    """

    def __init__(self, nodes: dict, edges: list, plates: dict, distributions: bool = False):
        self.nodes, self.edges, self.plates = nodes, edges, plates
        self._annotated = distributions
        self._arranged: Picture | None = None
        self._left_out = 0

    @classmethod
    def of(
        cls, runs: list[Survey], params=False, deterministic=False, distributions=False
    ) -> ModelGraph:
        """The graph of what some runs of one model have in them.

        >>> import pplkit, pplkit.distributions as dist
        >>> run = survey(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0)))
        >>> list(ModelGraph.of([run]).nodes)
        ['x']
        """
        nodes: dict[str, dict] = {}
        edges: dict[tuple[str, str], None] = {}
        plates: dict[str, dict] = {}
        for run in runs:
            for name, node in _nodes(run, params, deterministic).items():
                _add(nodes, name, node)
            for edge in _edges(run, nodes):
                edges[edge] = None
            for name, frame in run.plates.items():
                inside = [n for n in nodes if name in nodes[n]["plates"]]
                plates[name] = {
                    "size": frame.full_size,
                    "rows": frame.size,
                    "loop": bool(inside) and not frame.vectorized,
                    "nodes": inside,
                }
        return cls(nodes, list(edges), plates, distributions)

    # -- as text ---------------------------------------------------------------------------------
    def to_text(self) -> str:
        """The graph in words: a table of what there is, then the plates.

        >>> import pplkit, pplkit.distributions as dist
        >>> print(render_model(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))).to_text())
        name  kind    distribution  depends on  plates
        x     latent  Normal(0, 1)
        """
        drawn = _folded(self)
        rows = [("name", "kind", "distribution", "depends on", "plates")]
        for node in drawn.nodes.values():
            above = [drawn.nodes[tail].label for tail, head in drawn.edges if head == node.key]
            if len(above) > 8:
                above = [*above[:6], f"and {len(above) - 6} others"]
            facts = self.nodes[node.names[0]]
            within = ", ".join(map(plain, facts["plates"]))
            alone = len(node.names) == 1 and not _module(node.names[0], facts)
            label = plain(node.names[0]) if alone else node.label
            rows.append((label, node.kind, _described(facts, node), ", ".join(above), within))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines += [f"plate {plain(n)}: {_rows(p)}" for n, p in self.plates.items() if p["nodes"]]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    @property
    def source(self) -> str:
        r"""The graph in Graphviz's language, for tools that read it.

        >>> print(ModelGraph({}, [], {}).source)
        digraph {
        }
        """
        picture = self._picture()
        looks = {
            "observed": 'style=filled, fillcolor="gray80"',
            "partly observed": 'style=wedged, fillcolor="gray80:white"',
            "deterministic": "style=dashed",
            "factor": 'shape=square, style=filled, fillcolor="black", fontcolor="white"',
            "param": "shape=plain",
        }
        lines = ["digraph {"]
        for node in picture.nodes.values():
            look = f", {looks[node.kind]}" if node.kind in looks else ""
            lines.append(f"{node.key} [label={_quoted(node.label)}{look}];")
        for i, plate in enumerate(pieces(picture.plates)):
            label = f"label={_quoted(plate.label)}; labelloc=b; labeljust=r;"
            lines.append(f"subgraph cluster_{i} {{ {label} {' '.join(plate.members)} }}")
        lines += [f"{tail} -> {head};" for tail, head in picture.edges]
        return "\n".join([*lines, "}"])

    # -- as a picture ----------------------------------------------------------------------------
    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        text = self.to_text()
        try:
            return {
                "text/html": self.svg(),  # of the page's own colours, dark or light
                "image/svg+xml": self.svg("auto"),
                "text/plain": text,
            }
        except errors.PplkitError as fault:
            shown = f"<pre>{_escaped(text)}</pre><p>{_escaped(str(fault).splitlines()[0])}</p>"
            return {"text/html": shown, "text/plain": text}

    def svg(self, ink: str = "") -> str:
        """The picture as an SVG element, with the table of `to_text` as its description.

        Args:
            ink: a colour, on white; "auto" for one that follows the reader's light or dark setting;
                nothing for that of the text around.

        Raises:
            PplkitError: pygraphviz is not installed.

        >>> import pplkit, pplkit.distributions as dist
        >>> render_model(lambda: pplkit.sample("x", dist.Normal(0.0, 1.0))).svg()[:40]
        '<svg xmlns="http://www.w3.org/2000/svg" '
        """
        if self._arranged is None:
            picture = self._picture()
            self._left_out = thin(picture)
            arrange(picture)
            self._arranged = picture
        shown = [node.label for node in self._arranged.nodes.values()]
        title = "Graph of a model with " + (short(", ".join(shown), 120) or "nothing in it")
        return svg(self._arranged, self._notes(), title, self.to_text(), ink)

    def save(self, filename: str | os.PathLike) -> None:
        """Write the picture to a file.

        Args:
            filename: ends in `.svg`, `.png`, `.pdf`, or in `.dot` or `.gv` for Graphviz's language.

        Raises:
            PplkitError: a package is not installed: pygraphviz, or vl-convert-python for `.png` and
                `.pdf`.

        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ModelGraph({}, [], {}).save(os.path.join(folder, "empty.dot"))
        ...     os.listdir(folder)
        ['empty.dot']
        """
        ending = os.path.splitext(os.fspath(filename))[1].lower()
        if ending in (".dot", ".gv"):
            content = self.source.encode()
        elif ending == ".svg":
            content = self.svg("auto").encode()
        elif ending in (".png", ".pdf"):
            content = _converted(self.svg(INK), ending)
        else:
            raise errors.wrong_argument(
                "ModelGraph.save",
                "filename=",
                filename,
                "a name that ends in .svg, .png, .pdf, .dot",
            )
        with open(filename, "wb") as file:
            file.write(content)

    def _picture(self) -> Picture:
        picture = _folded(self)
        for node in picture.nodes.values():
            measure(node)
        for plate in picture.plates:
            measure_plate(plate)
        return picture

    def _notes(self) -> list[str]:
        notes = []
        if self._left_out:
            notes.append(f"{self._left_out} arrows are left out: a path of others says the same")
        if not self._annotated:
            return notes
        for node in _folded(self).nodes.values():
            facts = self.nodes[node.names[0]]
            sign = ":" if node.kind == "param" else " ~"
            if described := _described(facts, node):
                notes.append(short(f"{node.label}{sign} {described}", 90))
        return notes


def _converted(drawing: str, ending: str) -> bytes:
    try:
        import vl_convert
    except ImportError as fault:
        raise errors.missing_package("vl-convert-python", f"a picture in {ending}") from fault
    if ending == ".png":
        return vl_convert.svg_to_png(drawing, scale=2)
    return vl_convert.svg_to_pdf(drawing)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    """A label in Graphviz's language: no escape of its own, no markup, no entity."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


# -- from runs to nodes ---------------------------------------------------------------------------


def _nodes(run: Survey, params: bool, deterministic: bool) -> dict[str, dict]:
    """What is shown of a run, by name."""
    halves = _halves(run)
    shown = {}
    for name, statement in run.statements.items():
        if name in {half for pair in halves.values() for half in pair}:
            continue
        kind = "partly observed" if name in halves else _kind(statement)
        if (kind == "param" and not params) or (kind == "deterministic" and not deterministic):
            continue
        source = run.statements[halves[name][0]] if name in halves else statement
        words = errors.in_words(statement.constraint) if kind == "param" else ""
        shown[name] = {
            "kind": kind,
            "distribution": "" if source.family == "Unit" else source.family,
            "arguments": source.arguments,
            "constraint": "real" if statement.constraint is constraints.real else words,
            "plates": [frame.name for frame in source.plates],
        }
    return shown


def _kind(statement: Statement) -> str:
    if statement.type == "param":
        return "param"
    if statement.family == "Unit":
        return "factor"
    if statement.observed:
        return "observed"
    return "deterministic" if statement.computed else "latent"


def _halves(run: Survey) -> dict[str, tuple[str, str]]:
    """Sites of which some rows are observed, with the two that `obs_mask` makes of each."""
    found = {}
    for name, statement in run.statements.items():
        pair = (f"{name}_observed", f"{name}_unobserved")
        if statement.type == "deterministic" and tuple(statement.parents) == pair:
            found[name] = pair
    return found


def _edges(run: Survey, nodes: dict[str, dict]) -> list[tuple[str, str]]:
    """Pairs of names among these nodes, seen through what is not shown."""
    halves = _halves(run)
    hidden = {
        name for name in run.statements if name not in nodes and run.statements[name].computed
    }
    edges = []
    for name in [name for name in run.statements if name in nodes]:
        above = [p for part in halves.get(name, (name,)) for p in run.parents(part, hidden)]
        edges += [(parent, name) for parent in dict.fromkeys(above) if parent in nodes]
    return edges


def _add(nodes: dict[str, dict], name: str, node: dict) -> None:
    """A further run's node: what one run has observed and another not is partly observed."""
    known = nodes.setdefault(name, node)
    kinds = {known["kind"], node["kind"]}
    if len(kinds) > 1 and kinds <= {"latent", "observed", "partly observed"}:
        known["kind"] = "partly observed"


# -- in words -------------------------------------------------------------------------------------


def _described(facts: dict, node: Node) -> str:
    """A node's distribution with its arguments, or its constraint."""
    if facts["kind"] == "param":
        if _module(node.names[0], facts):
            return f"a module's {len(node.names)}"
        return facts["constraint"]
    if facts["distribution"] == "Deterministic":
        return ""
    if facts["distribution"] == "" or not facts["arguments"]:
        return facts["distribution"]
    given = [
        plain(value)
        if i < 2 and argument not in ("logits", "rate")
        else f"{argument}={plain(value)}"
        for i, (argument, value) in enumerate(facts["arguments"].items())
        if (argument, value) != ("log_density", "0")
    ]
    return short(f"{facts['distribution']}({', '.join(given)})", 72)


def _rows(plate: dict) -> str:
    some = "" if plate["rows"] == plate["size"] else f"{plate['rows']} of "
    rows = f"{some}{plate['size']} row" + ("" if plate["size"] == 1 else "s")
    return rows + (", one after another" if plate["loop"] else "")


# -- what is drawn ----------------------------------------------------------------------------

MANY = 6  # of a series; from here on the middle of it is folded


def _folded(graph: ModelGraph) -> Picture:
    """What is drawn, not yet placed: long series are folded, and so are a module's parameters."""
    series: dict[tuple, list[str]] = {}
    for name, facts in graph.nodes.items():
        like = _module(name, facts) or re.sub(r"\d+", "0", name)
        family = (like, facts["kind"], facts["distribution"], *facts["plates"])
        series.setdefault(family, []).append(name)
    groups: dict[str, list[str]] = {}
    for names in series.values():
        parts = [[name] for name in names]
        if _module(names[0], graph.nodes[names[0]]):
            parts = [names]
        elif len(names) > MANY:
            parts = [names[:1], names[1:2], names[2:-1], names[-1:]]
        groups |= {part[0]: part for part in parts}
    first = {name: part[0] for part in groups.values() for name in part}
    keys = {name: f"n{i}" for i, name in enumerate(n for n in graph.nodes if n in groups)}
    nodes = {}
    for name, key in keys.items():
        ends = dict.fromkeys((groups[name][0], groups[name][-1]))
        label = _module(name, graph.nodes[name]) or " … ".join(short(plain(n)) for n in ends)
        nodes[key] = Node(key, groups[name], label, graph.nodes[name]["kind"])
    edges = dict.fromkeys((keys[first[a]], keys[first[b]]) for a, b in graph.edges)
    edges = [(tail, head) for tail, head in edges if tail != head]
    plates = [
        Plate(
            name,
            _plate_label(name, p),
            [*dict.fromkeys(keys[first[n]] for n in p["nodes"])],
            p["loop"],
        )
        for name, p in graph.plates.items()
        if p["nodes"]
    ]
    chains = [[keys[n] for n in names if n in keys] for names in series.values()]
    chains = [c for c in chains if any(pair in set(edges) for pair in itertools.pairwise(c))]
    return Picture(nodes, edges, plates, chains, _readings(nodes, edges, chains))


def _module(name: str, facts: dict) -> str:
    """The name that a parameter's module has, in the picture; nothing where there is none."""
    module, mark, _ = name.partition("$$$")
    return short(plain(module)) if mark and facts["kind"] == "param" else ""


def _readings(nodes: dict[str, Node], edges: list, chains: list) -> set[str]:
    """What belongs below a chain: that on which nothing but the chain's last row depends."""
    above = {head for _, head in edges}
    parents = {tail for tail, _ in edges}
    found = set()
    for key in nodes if chains else ():
        children = [head for tail, head in edges if tail == key]
        if key not in above and len(children) > 1 and not parents.intersection(children):
            found.add(key)
    return found


def _plate_label(name: str, plate: dict) -> str:
    some = "" if plate["rows"] == plate["size"] else f"{plate['rows']} of "
    return f"{short(plain(name))}: {some}{plate['size']}"
