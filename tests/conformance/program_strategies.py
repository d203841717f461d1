"""Hypothesis strategies for the programs of `random_programs`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from tests.conformance.random_programs import (
    FAMILIES,
    Data,
    Deterministic,
    Expected,
    Factor,
    Fn,
    Handled,
    Markov,
    Mask,
    Param,
    Plate,
    Prior,
    Program,
    Raise,
    Sample,
    Scale,
    Subsample,
    Under,
    broadcast,
    inside,
    shapes_of,
    walk,
)

FAMILY_NAMES = st.sampled_from(sorted(FAMILIES))
HANDLERS = sorted(
    "condition uncondition do substitute block mask scale seed lift scope infer_config".split()
)


def often(draw, percent: int) -> bool:
    """True about so often; shrinks towards False."""
    return draw(st.integers(0, 99)) >= 100 - percent


@dataclass
class Around:
    """What the maker of a program knows of the place where a statement will stand."""

    wrong: int  # how many of a hundred choices are mistakes
    kinds: tuple = tuple(HANDLERS)  # of handlers inside the program
    plates: dict = field(default_factory=dict)  # vectorised: dim: rows
    full: dict = field(default_factory=dict)  # the same before a subsample is taken
    names: tuple = ()  # of the plates that are open
    depth: int = 0
    looped: int = 0
    count: list = field(default_factory=lambda: [0])
    made: dict = field(default_factory=dict)  # plates made before, by name

    def name(self, letter: str, draw) -> str:
        self.count[0] += 1
        n = self.count[0]
        if n > 1 and self.wrong and often(draw, self.wrong // 3):
            n -= 1
        return f"{letter}{n}"

    def rows(self, full: bool = False) -> tuple[int, ...]:
        wide = [1] * max((-dim for dim in self.plates), default=0)
        for dim, size in (self.full if full else self.plates).items():
            wide[dim] = size
        return tuple(wide)


@st.composite
def fitting(draw, shape: tuple, wrong: int = 0):
    """A shape that broadcasts to `shape`; sometimes one that does not."""
    out = [1 if draw(st.booleans()) else size for size in shape]
    while out and out[0] == 1 and draw(st.booleans()):
        out = out[1:]
    if wrong and often(draw, wrong):
        if out and draw(st.booleans()):
            k = draw(st.integers(0, len(out) - 1))
            out[k] += draw(st.integers(1, 2))
        else:
            out = [draw(st.integers(1, 3)), *out]
    return tuple(out)


@st.composite
def distributions(draw, around: Around):
    family = draw(FAMILY_NAMES)
    own = tuple(draw(st.lists(st.integers(1, 3), max_size=2))) if often(draw, 40) else ()
    wide = around.rows()
    if own and len(wide) == 0:
        whole = own
    else:
        whole = wide + own
    shapes = tuple(draw(fitting(whole, around.wrong)) for _ in FAMILIES[family].parameters)
    batch = broadcast(*shapes)
    fn = Fn(family, shapes)
    if own:
        # What is right of the plates must be one event.
        if batch is not None and (len(batch) < len(own) or often(draw, 40)):
            fn = replace(fn, expand=draw(expansions(batch, whole, len(own), around.wrong)))
        events = len(own)
        if around.wrong and often(draw, around.wrong):
            events += draw(st.integers(-1, 1))
        fn = replace(fn, to_event=events)
    elif batch is not None and often(draw, 15):
        fn = replace(fn, expand=draw(expansions(batch, whole, 0, around.wrong)))
    if often(draw, 15):
        made = shapes_of(fn)
        mask = draw(st.booleans())
        if made and draw(st.booleans()):
            mask = draw(fitting(made[0], around.wrong))
        fn = replace(fn, mask=mask)
    return fn


@st.composite
def expansions(draw, batch: tuple, whole: tuple, least: int, wrong: int):
    if wrong and often(draw, wrong):
        return draw(fitting(whole, wrong))
    keep = max(len(whole) - draw(st.integers(0, len(whole))), len(batch), least)
    return broadcast(batch, whole[len(whole) - keep :])


@st.composite
def samples(draw, around: Around):
    fn = draw(distributions(around))
    name = around.name("x", draw)
    made = shapes_of(fn)
    batch = inside(made[0], around.plates) if made else None
    if batch is None or not often(draw, 35):
        return Sample(name, fn)
    full = batch + made[1]
    obs = full
    if often(draw, 25):
        obs = draw(fitting(batch, around.wrong)) + made[1]
    if around.wrong and often(draw, around.wrong):
        obs = draw(fitting(full, 50))
    if often(draw, 15):
        return Sample(name, fn, obs, draw(fitting(batch, around.wrong)))
    return Sample(name, fn, obs)


@st.composite
def params(draw, around: Around):
    own = draw(st.lists(st.integers(1, 3), max_size=1))
    whole = []
    event_dim = draw(st.sampled_from([None, len(own)]))
    if event_dim is not None:
        whole = list(draw(fitting(around.rows(full=True), around.wrong)))
    return Param(around.name("p", draw), (*whole, *own), draw(st.booleans()), event_dim)


@st.composite
def simple_statements(draw, around: Around):
    kind = draw(st.sampled_from("sample sample sample sample param other".split()))
    if kind == "sample":
        return draw(samples(around))
    if kind == "param":
        return draw(params(around))
    kind = draw(st.sampled_from(["deterministic", "factor", "subsample"]))
    own = tuple(draw(st.lists(st.integers(1, 3), max_size=1)))
    rows = draw(fitting(around.rows(), around.wrong))
    if kind == "deterministic":
        event_dim = draw(st.sampled_from([None, len(own)]))
        return Deterministic(around.name("d", draw), rows + own, event_dim)
    if kind == "factor":
        return Factor(around.name("f", draw), rows)
    rows = draw(fitting(around.rows(full=True), around.wrong))
    return Subsample(rows + own, len(own))


@st.composite
def plates(draw, around: Around):
    known = [p for p in around.made.values() if p.name not in around.names or around.wrong]
    known = [p for p in known if p.how != "for"]  # which Pyro never enters as a whole again
    known = [p for p in known if p.dim not in around.plates or around.wrong]
    if known and often(draw, 25):
        first = draw(st.sampled_from(known))
        plate = replace(first, how="again")
    else:
        name = f"P{len(around.made)}"
        if known and around.wrong and often(draw, around.wrong):
            name = draw(st.sampled_from(known)).name
        size = draw(st.integers(1, 4))
        rows = None
        if often(draw, 30):
            rows = draw(st.integers(1, size + (1 if around.wrong > 30 else 0)))
            if draw(st.booleans()) and rows <= size:
                rows = tuple(draw(st.permutations(range(size)))[:rows])
        how = draw(st.sampled_from("with with with for decorator".split()))
        dim = draw(st.integers(-3, -1)) if how != "for" and often(draw, 30) else None
        if dim in around.plates and not (around.wrong and often(draw, around.wrong)):
            dim = None
        plate = Plate(name, size, (), dim, rows, how)
    count = len(plate.rows) if isinstance(plate.rows, tuple) else plate.rows or plate.size
    within = replace(around, depth=around.depth + 1, names=(*around.names, plate.name))
    plate_dim = None
    if plate.how == "for":
        within.looped += 1
    else:
        dim = plate.dim or next(d for d in range(-1, -99, -1) if d not in around.plates)
        within.plates = {**around.plates, dim: count}
        within.full = {**around.full, dim: plate.size}
        plate_dim = dim
    around.made[plate.name] = replace(plate, dim=plate_dim)
    return replace(plate, body=draw(bodies(within)))


@st.composite
def bodies(draw, around: Around):
    out = []
    for _ in range(draw(st.integers(1, 3))):
        deep = around.depth < 3
        roll = draw(st.integers(0, 99)) if deep else 0
        if roll < 60:
            out.append(draw(simple_statements(around)))
        elif roll < 88:
            out.append(draw(plates(around)))
        elif roll < 92 and around.looped == 0:
            within = replace(around, depth=around.depth + 1, looped=1)
            steps, history = draw(st.integers(1, 3)), draw(st.integers(0, 2))
            out.append(Markov(steps, history, draw(bodies(within))))
        else:
            body = draw(bodies(replace(around, depth=around.depth + 1)))
            out.append(Under(draw(handlers(body, around.wrong, around.kinds)), body))
    return tuple(out)


@st.composite
def handlers(draw, body: tuple, wrong: int, kinds=HANDLERS):
    kind = draw(st.sampled_from(kinds))
    expected = Expected().run(body)
    if kind in ("uncondition", "infer_config", "replay"):
        return Handled(kind)
    if kind == "seed":
        return Handled(kind, (("rng_seed", draw(st.integers(0, 5))),))
    if kind == "scope":
        return Handled(kind, (("prefix", draw(st.sampled_from(["left", "right"]))),))
    if kind in ("mask", "scale"):
        return draw(weights(kind, body, expected, wrong))
    if kind == "block":
        return draw(blocks(body, expected, wrong))
    if kind in ("substitute", "lift"):
        return draw(for_parameters(kind, body, wrong))
    items = []
    if expected.sites:
        for name in draw(st.sets(st.sampled_from(sorted(expected.sites)), max_size=2)):
            fn, batch, event = expected.sites[name]
            shape = batch + event
            if wrong and often(draw, wrong):
                shape = draw(fitting(shape, 60))
            items.append((name, fn.family, shape))
    if wrong and often(draw, wrong):
        items.append(("nowhere", "Normal", ()))
    return Handled(kind, (("data", Data(tuple(sorted(items)))),))


@st.composite
def weights(draw, kind: str, body: tuple, expected: Expected, wrong: int):
    if draw(st.booleans()):
        value = draw(st.booleans()) if kind == "mask" else draw(st.sampled_from([0.5, 2.0, 3]))
        return Handled(kind, ((kind, value),))
    batches = sorted({batch for _, batch, _ in expected.sites.values()})
    shape = draw(fitting(draw(st.sampled_from(batches)), wrong)) if batches else ()
    return Handled(kind, ((kind, Mask(shape) if kind == "mask" else Scale(shape)),))


@st.composite
def blocks(draw, body: tuple, expected: Expected, wrong: int):
    how = draw(st.sampled_from(["hide", "expose", "hide_types", "expose_types", None]))
    if how is None:
        return Handled("block")
    choices = ["sample", "observe", "param"]
    if not how.endswith("types"):
        choices = sorted(expected.sites) + [n.name for n in walk(body) if isinstance(n, Param)]
        choices += ["nowhere"] if wrong or not choices else []
    names = draw(st.sets(st.sampled_from(choices), max_size=2))
    return Handled("block", ((how, tuple(sorted(names))),))


@st.composite
def for_parameters(draw, kind: str, body: tuple, wrong: int):
    known = [node for node in walk(body) if isinstance(node, Param)]
    if not known:
        items = (("nowhere", "Normal", ()),) if wrong else ()
        if kind == "substitute":
            return Handled(kind, (("data", Data(items)),))
        return Handled(kind, (("prior", Prior((), None if draw(st.booleans()) else "nowhere")),))
    node = draw(st.sampled_from(known))
    shape = draw(fitting(node.shape, wrong)) if wrong else node.shape
    if kind == "lift":
        name = node.name if draw(st.booleans()) else None
        return Handled(kind, (("prior", Prior(shape, name)),))
    family = "Gamma" if node.positive else "Normal"
    return Handled(kind, (("data", Data(((node.name, family, shape),))),))


@st.composite
def programs(draw, wrong=0, kinds=(*HANDLERS, "replay"), at_most=3, inside=tuple(HANDLERS)):
    body = draw(bodies(Around(wrong, inside)))
    chosen = [draw(handlers(body, wrong, kinds)) for _ in range(draw(st.integers(0, at_most)))]
    return Program(body, tuple(chosen))


@st.composite
def failing_programs(draw):
    """A program that raises at a random statement."""
    program = draw(programs())
    return replace(program, body=draw(with_a_raise(program.body)))


@st.composite
def with_a_raise(draw, body: tuple):
    at = draw(st.integers(0, len(body)))
    if at < len(body) and hasattr(body[at], "body") and draw(st.booleans()):
        inner = replace(body[at], body=draw(with_a_raise(body[at].body)))
        return (*body[:at], inner, *body[at + 1 :])
    return (*body[:at], Raise(), *body[at:])
