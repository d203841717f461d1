"""What a process remembers of captured programs is never given for another program."""

import functools
import random
import sys
import time
import types

import numpy as np
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import handlers, optim, param, plate, sample
from pplkit.capture import capture_step
from pplkit.infer import SVI, Trace_ELBO, autoguide, race
from pplkit.infer.identity import Identity, Unknown

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])

PROGRAM = """
import math, functools
import pplkit, torch
import pplkit.distributions as dist
from pplkit import param, plate, sample

WIDTH, TABLE = 0.5, {"shift": [0.0]}
class Settings:
    prior = 1.0
    def __init__(self):
        self.deep = {"scale": (1.0, 2.0)}
    def width(self):
        return self.prior * self.deep["scale"][0]
settings = Settings()
def helper(z):
    return z + TABLE["shift"][0]
def model(data, *, power=1.0):
    z = sample("z", dist.Normal(0.0, settings.width() * math.exp(power - 1.0)))
    with plate("data", len(data)):
        sample("obs", dist.Normal(helper(z), WIDTH), obs=data)
def guide(data):
    loc = param("loc", torch.tensor(0.3))
    scale = param("scale", torch.tensor(0.8), constraint=dist.constraints.positive)
    sample("z", dist.Normal(loc, scale))
"""


@pytest.fixture(autouse=True)
def nothing_known():
    race.forget()
    yield
    race.forget()


@pytest.fixture
def cell():
    """The names of a notebook in which the program's cell has been run."""
    names = {"__name__": "__main__"}
    exec(PROGRAM, names)
    return names


def inference(model, guide, adam=None, elbo=None):
    svi = SVI(model, guide, adam or optim.Adam({"lr": 0.01}), elbo or Trace_ELBO(), params=store())
    with handlers.seed(rng_seed=0):
        svi.step(DATA)
    return svi


def store():
    return pplkit.ParamStore()


def identity(svi, *args, **kwargs):
    return race.identity(svi, svi.params, args or (DATA,), kwargs)


def stays(svi, change, *args):
    """Whether the program is still known after a change."""
    race.remember(identity(svi), "known")
    assert race.recall(identity(svi)) == "known"
    change()
    return race.recall(identity(svi, *args)) == "known"


def redefine(cell, old, new):
    assert old in PROGRAM
    exec(PROGRAM.replace(old, new), cell)


CHANGES = {
    "a global number": lambda cell: cell.update(WIDTH=0.7),
    "another kind of number": lambda cell: cell.update(WIDTH=torch.tensor(0.5)),
    "deep in a table": lambda cell: cell["TABLE"]["shift"].__setitem__(0, 1.0),
    "a helper": lambda cell: exec("def helper(z):\n    return z * 2", cell),
    "an attribute": lambda cell: setattr(cell["settings"], "prior", 3.0),
    "an attribute of the class": lambda cell: setattr(cell["Settings"], "prior", 3.0),
    "deep in an object": lambda cell: cell["settings"].deep.update(scale=(1.0, 2.5)),
    "a method": lambda cell: setattr(cell["Settings"], "width", lambda self: 9.0),
    "a default": lambda cell: setattr(cell["model"], "__kwdefaults__", {"power": 2.0}),
    "a builtin, covered": lambda cell: cell.update(len=lambda x: 4),
    "a module, replaced": lambda cell: cell.update(math=types.SimpleNamespace(exp=abs)),
    "a distribution, replaced": lambda cell: cell.update(
        dist=types.SimpleNamespace(Normal=dist.Laplace, constraints=dist.constraints)
    ),
    "the code itself": lambda cell: setattr(cell["model"], "__code__", cell["guide"].__code__),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_model_reads(cell, change):
    svi = inference(cell["model"], cell["guide"])
    assert not stays(svi, lambda: CHANGES[change](cell))


@pytest.mark.parametrize(
    "old, new",
    [
        ("helper(z), WIDTH", "helper(z), 2 * WIDTH"),
        ("dist.Normal(helper", "dist.Laplace(helper"),
        ("constraints.positive", "constraints.interval(0.0, 9.0)"),
        ("power=1.0", "power=1.5"),
        ("(1.0, 2.0)", "(1.5, 2.0)"),
    ],
)
def test_a_cell_that_is_run_again_with_a_change(cell, old, new):
    svi = inference(cell["model"], cell["guide"])
    race.remember(identity(svi), "known")
    redefine(cell, old, new)
    assert race.recall(identity(inference(cell["model"], cell["guide"]))) is None


def test_a_cell_that_is_run_again_unchanged(cell):
    svi = inference(cell["model"], cell["guide"])
    race.remember(identity(svi), "known")
    exec(PROGRAM, cell)
    assert race.recall(identity(inference(cell["model"], cell["guide"]))) == "known"


def closing(width, lines=(0.0,)):
    offset = torch.tensor(lines)

    def model(data):
        z = sample("z", dist.Normal(offset.sum(), 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z, width), obs=data)

    return model, offset


def guide(data):
    sample("z", dist.Normal(param("loc", torch.tensor(0.3)), 0.5))


def test_closures():
    model, offset = closing(0.5)
    svi = inference(model, guide)
    assert stays(svi, lambda: offset.fill_(3.0))  # a tensor is an input: its numbers may change
    for other in (closing(0.7)[0], closing(0.5)[0]):  # another number; another tensor
        assert race.recall(identity(inference(other, guide))) is None
    assert race.recall(identity(inference(functools.partial(model), guide))) is None


class Net:
    def __init__(self):
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)
        )

    def model(self, data):
        z = sample("z", dist.Normal(0.0, 1.0))
        with plate("data", len(data)):
            sample("obs", dist.Normal(z + self.net(data).sum(), 1.0), obs=data)

    def fitted(self, data):
        pplkit.module("net", self.net)
        self.model(data)


def reweighted(made):
    made.net[0].weight = torch.nn.Parameter(torch.zeros(3, 4))


MODULES = {
    "a layer more": lambda made: made.net.append(torch.nn.ReLU()),
    "another activation": lambda made: made.net.__setitem__(1, torch.nn.ReLU()),
    "evaluation": lambda made: made.net.eval(),
    "another parameter": reweighted,
    "a frozen one": lambda made: made.net[0].weight.requires_grad_(False),
    "a hook": lambda made: made.net[0].register_forward_hook(lambda m, x, y: 2 * y),
    "another setting": lambda made: setattr(made.net, "depth", 3),
}


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("change", MODULES)
def test_the_structure_of_modules(change, fitted):
    made = Net()
    svi = inference(made.fitted if fitted else made.model, guide)
    assert stays(svi, lambda: made.net[2].bias.data.fill_(2.0))
    assert not stays(svi, lambda: MODULES[change](made))


def test_what_belongs_to_the_inference(cell):
    program = cell["model"], cell["guide"]
    svi = inference(*program)
    race.remember(identity(svi), "known")
    others = [
        inference(*program, adam=optim.Adam({"lr": 0.01, "betas": (0.8, 0.999)})),
        inference(*program, adam=optim.Adam({"lr": 0.01}, {"clip_norm": 1.0})),
        inference(*program, adam=optim.AdamW({"lr": 0.01})),
        inference(*program, elbo=Trace_ELBO(num_particles=2)),
        inference(cell["model"], autoguide.AutoNormal(cell["model"])),
    ]
    for other in others:
        assert race.recall(identity(other)) is None
    same = inference(*program, adam=optim.Adam({"lr": 0.5}))
    assert race.recall(identity(same)) == "known"  # rates are inputs
    assert race.recall(identity(same, torch.zeros(100))) == "known"  # so are data of any size
    for args in ((DATA.double(),), (DATA[None],), (DATA.clone().requires_grad_(),), (DATA, 1)):
        assert race.recall(identity(same, *args)) is None
    assert race.recall(identity(same, DATA, power="x")) is None


def test_the_constraint_of_a_parameter(cell):
    svi = inference(cell["model"], cell["guide"])

    def change():
        svi.params._entries["scale"].constraint = dist.constraints.real

    assert not stays(svi, change)


def test_arguments_that_are_objects(cell):
    svi = inference(cell["model"], cell["guide"])
    options = {"kind": ["robust"]}
    assert race.recall(identity(svi, DATA, options)) is None
    race.remember(identity(svi, DATA, options), "known")
    assert race.recall(identity(svi, DATA, options)) == "known"
    options["kind"][0] = "plain"
    assert race.recall(identity(svi, DATA, options)) is None


def test_what_the_process_has_set(cell):
    svi = inference(cell["model"], cell["guide"])
    race.remember(identity(svi), "known")
    with pplkit.checks.validation_enabled(False):
        assert race.recall(identity(svi)) is None
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert race.recall(identity(svi)) is None
    finally:
        torch.set_default_dtype(before)
    assert race.recall(identity(svi)) == "known"


def elsewhere(name, **held):
    module = types.ModuleType(name)
    vars(module).update(held)
    return module


def test_modules_of_ones_own(cell, monkeypatch):
    config = elsewhere("config", WIDTH=0.5, other=random.Random(0))
    cell.update(config=config)
    exec(PROGRAM.replace("helper(z), WIDTH", "helper(z), config.WIDTH"), cell)
    svi = inference(cell["model"], cell["guide"])
    assert not stays(svi, lambda: setattr(config, "WIDTH", 0.6))
    monkeypatch.setitem(sys.modules, "config", config)
    exec(PROGRAM.replace("z = sample", "from config import WIDTH\n    z = sample"), cell)
    with pytest.raises(Unknown, match="imports 'config' while it runs"):
        identity(inference(cell["model"], cell["guide"]))


ROOT = object()
LEFT_OPEN = {
    "a random stream": lambda: random.random(),
    "a stream of its own": functools.partial(lambda stream: stream.random(), random.Random(1)),
    "a clock": lambda: time.time(),
    "a file": lambda: open("width"),
    "names nobody foresees": lambda: globals()["WIDTH"],
    "code in words": lambda: eval("1.0"),
    "a module as a whole": lambda: vars(pytest),
    "a generator": functools.partial(next, (x for x in (1.0, 2.0))),
    "a cache": functools.lru_cache(lambda: 1.0),
    "an iterator": functools.partial(next, iter([1.0, 2.0])),
}


@pytest.mark.parametrize("kind", LEFT_OPEN)
def test_what_cannot_be_looked_through_has_no_identity(kind):
    with pytest.raises(Unknown):
        Identity({"the model": LEFT_OPEN[kind]})


def test_plain_values_are_told_apart():
    values = [0, False, 0.0, -0.0, "0", b"0", None, (), [], {}, (0,), [0], {0}, {0: 0}, 1, True]
    told = [Identity({"x": value}).told for value in values]
    assert len(set(told)) == len(values)


def test_objects_that_hold_each_other():
    a, b = [1.0], {}
    a.append(b)
    b["back"] = a
    before = Identity({"x": a})
    assert Identity({"x": a}).same(before)
    b["more"] = 1
    assert not Identity({"x": a}).same(before)


def test_what_lies_too_deep():
    chain = []
    for _ in range(10**5):
        chain = [chain]
    with pytest.raises(Unknown, match="deeper"):
        Identity({"the model": chain})


class Shy:
    """Objects of it will not be looked at."""

    __slots__ = ("_width",)

    def __getattr__(self, name):
        raise ValueError(name)


def test_objects_that_refuse_to_be_looked_at(monkeypatch):
    shy = Shy()

    def model(data):
        z = sample("z", dist.Normal(0.0, 1.0 if shy is not None else 2.0))
        sample("obs", dist.Normal(z, 1.0).expand([4]).to_event(1), obs=data)

    monkeypatch.setattr(race, "_WORTH_LOOKING", 0.0)
    race.remember(Identity({"x": 0}), "something")
    svi = SVI(model, guide, optim.Adam({"lr": 0.01}), Trace_ELBO(), params=store())
    assert len(svi.run(400, DATA).losses) == 400


def test_a_remembered_program_keeps_no_tensor_alive(cell):
    import weakref

    model, offset = closing(0.5)
    svi = inference(model, guide)
    race.remember(identity(svi), "known")
    kept = weakref.ref(offset)
    del model, offset, svi
    import gc

    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("name", ["AutoNormal", "AutoMultivariateNormal"])
def test_a_program_with_an_automatic_guide_stays_known(cell, name):
    made = getattr(autoguide, name)(cell["model"])
    svi = inference(cell["model"], made)
    with svi.params:  # as while a run goes on
        before = identity(svi)
        svi.step(DATA)
        capture_step(svi, DATA)
        assert identity(svi).same(before)
    with made.stored() as used:
        assert used is svi.params
    other = pplkit.ParamStore()
    with other:
        made(DATA)
    assert not identity(svi).same(before), "its parameters are looked up elsewhere now"


def test_large_arrays_are_looked_through(cell):
    start, model = np.zeros((800, 400)), cell["model"]
    svi = inference(lambda data: model(data + start[0, 0]), cell["guide"])
    assert stays(svi, lambda: None)
    assert not stays(svi, lambda: start.__setitem__((-1, -1), 1.0))


def test_only_so_many_are_remembered():
    first = Identity({"x": 0})
    for i in range(100):
        race.remember(Identity({"x": i}), i)
    assert race.recall(first) is None and len(race._MEMORY) <= 16
    assert race.recall(Identity({"x": 99})) == 99
