"""The figure between kernel and page: what is evaluated, when, and what the page is told."""

from __future__ import annotations

import gc
import math
import random
import threading
import weakref

import altair as alt
import pytest
import torch

import pplkit
import pplkit.distributions as dist
import pplwidgets
from pplkit.effects import active_handlers

from .conftest import Page, same

CHART = alt.Chart().mark_line().encode(x="x", y="y")
POINTS = alt.Chart().mark_point().encode(x="y")


def parabola(mu, n):
    x = torch.linspace(-3, 3, n)
    return {"x": x, "y": (x - mu) ** 2}


def make(fn=parabola, **controls):
    return pplwidgets.live(fn, CHART, **(controls or {"mu": (-3.0, 3.0), "n": (2, 50)}))


class Gated:
    """A function that waits at a gate, and keeps what it was asked."""

    def __init__(self):
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.asked, self.threads = [], []

    def __call__(self, mu):
        self.asked.append(mu)
        self.threads.append(threading.current_thread())
        self.entered.set()
        assert self.gate.wait(60)
        if mu < 0:
            raise RuntimeError("below zero")
        return {"x": torch.zeros(2), "y": torch.full((2,), mu)}

    def shut(self):
        self.entered.clear()
        self.gate.clear()

    def wait_entered(self):
        assert self.entered.wait(60)


# -- pictures
# -----------------------------------------------------------------------------------------------


def test_a_page_gets_the_first_picture_and_the_present_one(opened):
    figure = make()
    figure.mu = 2.0
    page = opened(figure)
    (first, _), (now, _) = page.messages("picture")
    assert first["first"] and first["controls"] == {"mu": 0.0, "n": 26}
    assert not now["first"] and now["controls"] == {"mu": 2.0, "n": 26}
    assert same(page.picture(), figure.evaluate())


def test_the_picture_follows_python_and_the_page(opened):
    figure = make()
    page = opened(figure)
    figure.mu = 1.25
    assert figure.settle(60) and same(page.picture(), figure.evaluate(mu=1.25))
    page.set(mu=-0.5, n=7)
    assert figure.settle(60) and same(page.picture(), figure.evaluate(mu=-0.5, n=7))
    assert (figure.mu, figure.n) == (-0.5, 7)
    assert same(figure.tables, page.picture())


def test_numbers_travel_as_bytes(opened):
    page = opened(make())
    content, buffers = page.messages("picture")[-1]
    assert [len(b) for b in buffers] == [26 * 4, 26 * 4]
    assert content["tables"] == [
        {
            "name": "data",
            "rows": 26,
            "columns": [
                {"name": "x", "dtype": "<f4", "boolean": False},
                {"name": "y", "dtype": "<f4", "boolean": False},
            ],
        }
    ]


def test_the_state_holds_no_numbers_and_no_runtime():
    figure = make(n=(2, 100_000), mu=(-1.0, 1.0))
    state = figure.get_state()
    assert len(repr({k: v for k, v in state.items() if k != "layout"})) < 10_000


def test_the_runtime_is_sent_when_asked_for(opened):
    import gzip
    import hashlib

    figure = make()
    page = opened(figure)
    page.say({"kind": "runtime"})
    ((content, (code,)),) = page.messages("runtime")
    assert content["hash"] == figure._runtime
    assert hashlib.sha256(gzip.decompress(code)).hexdigest().startswith(figure._runtime)


def test_without_a_page_nothing_is_evaluated():
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    figure.mu = 2.0
    assert gated.asked == [1.0]
    assert figure.tables["data"]["y"][0] == 2.0 and gated.asked == [1.0, 2.0]


# -- coalescing
# ---------------------------------------------------------------------------------------------


def test_changes_are_coalesced_and_the_last_one_is_drawn(opened):
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    page = opened(figure)
    gated.shut()
    before = len(gated.asked)
    figure.mu = 0.0
    gated.wait_entered()
    for step in range(1, 201):
        page.set(mu=step / 100)
    gated.gate.set()
    assert figure.settle(60)
    assert gated.asked[before:] == [0.0, 2.0]
    assert page.messages("picture")[-1][0]["controls"] == {"mu": 2.0}
    assert same(page.picture(), figure.evaluate(mu=2.0))


def test_pictures_come_in_order_and_late_trouble_is_dropped(opened):
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    page = opened(figure)
    gated.shut()
    figure.mu = -0.5
    gated.wait_entered()
    figure.mu = 1.5
    gated.gate.set()
    assert figure.settle(60)
    assert page.messages("trouble") == []
    serials = [content["serial"] for content, _ in page.messages("picture")]
    assert serials == sorted(serials) and page.picture()["data"]["y"][0] == 1.5


def test_evaluation_is_off_the_message_thread(opened):
    gated = Gated()
    page = opened(make(gated, mu=(-1.0, 3.0)))
    page.set(mu=2.5)
    assert page.figure.settle(60)
    assert gated.threads[-1] is not threading.current_thread()
    assert (
        gated.threads[0] is threading.current_thread()
    )  # the example, where the author sees its errors


def test_the_kernel_says_at_once_that_it_has_heard(opened):
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    page = opened(figure)
    gated.shut()
    heard = len(page.messages("working"))
    page.set(mu=2.5)
    assert len(page.messages("working")) == heard + 1
    gated.gate.set()


def test_going_back_while_it_works_ends_at_the_last_value(opened):
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    page = opened(figure)
    gated.shut()
    figure.mu = 2.0
    gated.wait_entered()
    figure.mu = 1.0
    gated.gate.set()
    assert figure.settle(60)
    assert page.messages("picture")[-1][0]["controls"] == {"mu": 1.0}


# -- trouble
# ------------------------------------------------------------------------------------------------


def fails_above_one(mu):
    if mu > 1:
        raise ValueError(f"mu is {mu}, too much")
    return {"x": torch.zeros(2), "y": torch.full((2,), mu)}


def test_an_exception_is_told_with_the_authors_line_and_heals(opened):
    figure = make(fails_above_one, mu=(-3.0, 3.0))
    page = opened(figure)
    figure.mu = 2.0
    assert figure.settle(60)
    ((content, _),) = page.messages("trouble")
    assert content["text"] == "ValueError: mu is 2.0, too much"
    line = fails_above_one.__code__.co_firstlineno + 2
    assert (
        f"test_figure.py, line {line}" in content["where"]
        and "raise ValueError" in content["where"]
    )
    figure.mu = 0.5
    assert figure.settle(60)
    assert page.messages("picture")[-1][0]["serial"] > content["serial"]
    assert same(page.picture(), figure.evaluate())


def test_going_back_to_the_last_good_value_heals_too(opened):
    figure = make(fails_above_one, mu=(-3.0, 3.0))
    page = opened(figure)
    for mu in (2.0, 0.0):
        figure.mu = mu
        assert figure.settle(60)
    assert page.messages("picture")[-1][0]["serial"] > page.messages("trouble")[-1][0]["serial"]


def test_the_engines_own_errors_name_the_authors_line(opened):
    def fn(scale):
        return {"y": pplkit.sample("y", dist.Normal(torch.zeros(2), scale))}

    figure = pplwidgets.live(fn, POINTS, scale=(-1.0, 3.0))
    page = opened(figure)
    figure.scale = -0.5
    assert figure.settle(60)
    ((content, _),) = page.messages("trouble")
    assert "scale" in content["text"] and "test_figure.py" in content["where"]


def test_columns_that_stop_fitting_are_told(opened):
    figure = make(lambda n: {"x": torch.zeros(3), "y": torch.zeros(n)}, n=[3, 4])
    page = opened(figure)
    figure.n = 4
    assert figure.settle(60)
    assert "x has 3, y has 4" in page.messages("trouble")[0][0]["text"]


def test_what_fails_at_the_start_fails_in_the_authors_cell():
    with pytest.raises(ZeroDivisionError):
        make(lambda mu: 1 / 0, mu=(0.0, 1.0))
    with pytest.raises(ValueError, match="one length"):
        make(lambda mu: {"x": torch.zeros(2), "y": torch.zeros(3)}, mu=(0.0, 1.0))


def test_numbers_that_are_not_finite_are_remarked_on(opened):
    figure = make(
        lambda mu: {"x": torch.zeros(2), "y": torch.tensor([1.0, mu]).log()}, mu=(-1.0, 3.0)
    )
    page = opened(figure)
    figure.mu = -1.0
    assert figure.settle(60)
    content, _ = page.messages("picture")[-1]
    assert content["remarks"] == [
        "1 of 2 values of data.y are not finite numbers and are not drawn."
    ]


# -- what a page may send
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [None, float("nan"), "2", [], {}, True, {"a": 1}])
def test_garbage_from_the_page_is_refused_with_a_word(opened, sent):
    figure = make()
    page = opened(figure)
    page.set(mu=sent)
    assert figure.mu == 0.0 and page.state("mu") == 0.0
    assert "mu" in page.said()[-1] and "not a number" in page.said()[-1]


@pytest.mark.parametrize(("sent", "held"), [(99, 3.0), (-1e300, -3.0), (math.inf, 3.0)])
def test_numbers_out_of_range_are_held_at_its_end(opened, sent, held):
    figure = make()
    page = opened(figure)
    page.set(mu=sent)
    page.set(mu=sent)
    assert figure.mu == held and page.state("mu") == held
    assert "outside −3 … 3; held at" in page.said()[-1]


def test_python_is_refused_and_the_figure_says_so(opened):
    figure = make()
    page = opened(figure)
    with pytest.raises(Exception, match="outside −3 … 3"):
        figure.mu = 99.0
    assert "outside −3 … 3" in page.said()[-1]


def test_a_page_cannot_change_what_is_not_its_own(opened):
    figure = make()
    page = opened(figure)
    spec, code = dict(figure._spec), figure._esm
    page.set(_spec={"mark": "bar"}, _esm="alert(1)", _controls=[], nothing=1, comm=None)
    page.set(seed=-1)
    page.set(seed="x")
    for content in (None, [], "hello", {"kind": "surprise"}, {"kind": None}, {}):
        page.say(content)
    assert (figure._spec, figure._esm, figure.seed) == (spec, code, 0)
    figure.mu = 1.0
    assert figure.settle(60) and same(page.picture(), figure.evaluate())


def test_fuzz(opened):
    """Hundreds of events of every kind: no exception, and the last picture is that of the last
    controls.
    """
    chance = random.Random(4)

    def fn(mu, n, on, kind):
        if mu > 2.5:
            raise ValueError("too much")
        y = pplkit.sample("y", dist.Normal(mu, 1.0).expand([n]))
        return {"x": torch.arange(n) * float(on), "y": y.log() if kind == "log" else y}

    figure = pplwidgets.live(fn, CHART, mu=(-3.0, 3.0), n=(1, 40), on=True, kind=["plain", "log"])
    page = opened(figure)
    odd = [None, math.nan, math.inf, -math.inf, "", "7", 1e308, -0.0, [], {}, True, False, 2, 1, 0]
    for _ in range(600):
        kind = chance.randrange(6)
        if kind == 0:
            page.set(**{chance.choice(["mu", "n", "on", "kind", "seed"]): chance.choice(odd)})
        elif kind == 1:
            page.set(mu=chance.uniform(-4, 4), n=chance.randrange(-5, 60))
        elif kind == 2:
            figure.mu = chance.uniform(-3, 3)
        elif kind == 3:
            page.set(on=chance.random() < 0.5, kind=chance.randrange(-1, 4))
        elif kind == 4:
            chance.choice([figure.reset, figure.new_draw])()
        else:
            page.say(chance.choice([{"kind": "hello"}, {"kind": "x"}, {}]))
    page.set(mu=1.0)
    page.set(kind=1)
    assert figure.settle(60)
    assert same(page.picture(), figure.evaluate())
    assert page.messages("picture")[-1][0]["controls"] == {
        "mu": 1.0, "n": figure.n, "on": figure.on, "kind": 1,
    }  # fmt: skip


# -- randomness
# ---------------------------------------------------------------------------------------------


def cloud(mu, n):
    with pplkit.plate("rows", n):
        return {"y": pplkit.sample("y", dist.Normal(mu, 1.0))}


def test_a_growing_plate_appends(opened):
    figure = pplwidgets.live(cloud, POINTS, mu=(-3.0, 3.0), n=(1, 300))
    page = opened(figure)
    figure.n = 300
    assert figure.settle(60)
    all_of_them = page.picture()["data"]["y"]
    for n in (1, 5, 16, 17, 120):
        figure.n = n
        assert figure.settle(60)
        assert torch.equal(page.picture()["data"]["y"], all_of_them[:n])


def test_a_seed_is_a_draw(opened):
    figure = pplwidgets.live(cloud, POINTS, mu=(-3.0, 3.0), n=(1, 30), seed=3)
    page = opened(figure)
    start = page.picture()
    figure.new_draw()
    assert figure.settle(60) and not same(page.picture(), start)
    figure.mu = 2.0
    figure.reset()
    assert figure.settle(60) and same(page.picture(), start) and figure.seed == 3
    assert figure._words["random"] and not make()._words["random"]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "a", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed"):
        pplwidgets.live(cloud, POINTS, mu=(-3.0, 3.0), n=(1, 30), seed=seed)


def test_a_generator_of_torchs_own_is_warned_of():
    def fn(n):
        return {"y": torch.randn(n, generator=torch.default_generator)}

    with pytest.warns(UserWarning, match="generator that the figure does not own"):
        pplwidgets.live(fn, POINTS, n=(1, 3))


def test_evaluation_meets_nobodys_state_and_leaves_none(opened):
    """Neither the author's handlers nor the parameter store; nor does it leave a parameter
    behind.
    """
    pplkit.clear_param_store()
    pplkit.param("loc", torch.tensor(5.0))
    handlers = []

    def fn(mu):
        handlers.append(len(active_handlers()))
        loc = pplkit.param("loc", torch.tensor(mu))
        return {"x": torch.zeros(1), "y": loc.reshape(1)}

    with pplkit.handlers.condition(data={"loc": torch.tensor(1.0)}):
        figure = make(fn, mu=(-1.0, 1.0))
    page = opened(figure)
    figure.mu = 0.75
    assert figure.settle(60) and page.picture()["data"]["y"] == 0.75
    assert set(handlers) == {0}
    assert pplkit.get_param_store()["loc"] == 5.0
    pplkit.clear_param_store()


# -- the figure as an object
# ---------------------------------------------------------------------------------


def test_repr_is_stable():
    figure = make()
    assert repr(figure) == "LiveFigure(mu=0.0, n=26)"
    figure.mu = 1.5
    assert repr(figure) == "LiveFigure(mu=1.5, n=26)"


def test_evaluate_checks_its_controls():
    figure = make()
    with pytest.raises(TypeError, match="'m' is no control"):
        figure.evaluate(m=1.0)
    with pytest.raises(ValueError, match="outside"):
        figure.evaluate(mu=9.0)
    assert len(figure.evaluate(n=3)["data"]["x"]) == 3 and figure.n == 26


def test_a_closed_figure_leaves_no_thread_and_sends_nothing(opened):
    gated = Gated()
    figure = make(gated, mu=(-1.0, 3.0))
    page = opened(figure)
    gated.shut()
    figure.mu = 2.0
    gated.wait_entered()
    worker = gated.threads[-1]
    figure.close()
    sent = len(page.wire.sent)
    gated.gate.set()
    worker.join(60)
    assert not worker.is_alive() and len(page.wire.sent) == sent
    figure.mu = 0.5  # a closed figure still is an object
    assert gated.asked == [1.0, 2.0] and len(page.wire.sent) == sent


def test_an_idle_figure_has_no_thread(opened):
    gated = Gated()
    page = opened(make(gated, mu=(-1.0, 3.0)))
    page.set(mu=2.0)
    assert page.figure.settle(60)
    gated.threads[-1].join(60)
    assert not gated.threads[-1].is_alive()


def test_a_closed_figure_is_collected(opened):
    figure = make()
    opened(figure)
    figure.mu = 1.0
    figure.settle(60)
    gone = weakref.ref(figure)
    figure.close()
    del figure
    gc.collect()
    assert gone() is None


def test_two_figures_do_not_meet(opened):
    one, other = make(), make()
    pages = Page(one).hello(), Page(other).hello()
    one.mu = 1.0
    other.mu = -1.0
    assert one.settle(60) and other.settle(60)
    assert same(pages[0].picture(), one.evaluate(mu=1.0))
    assert same(pages[1].picture(), one.evaluate(mu=-1.0))


def test_importing_evaluates_nothing():
    import subprocess
    import sys

    code = (
        "import threading, pplwidgets; assert threading.active_count() == 1;"
        "import sys; assert 'altair' not in sys.modules and 'vl_convert' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
