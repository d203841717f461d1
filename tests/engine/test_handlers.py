import threading

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import (
    effects,
    errors,
    factor,
    handlers,
    markov,
    param,
    plate,
    plate_stack,
    sample,
    subsample,
)
from pplkit.effects import Handler, active_handlers
from pplkit.infer.reparam import LocScaleReparam, TransformReparam


def model(loc=0.0):
    x = sample("x", dist.Normal(loc, 1.0))
    return sample("y", dist.Normal(x, 1.0))


def test_trace_keeps_order_arguments_and_result():
    tr = handlers.trace(model).get_trace(2.0)
    assert list(tr.nodes) == ["_INPUT", "x", "y", "_RETURN"]
    assert tr.nodes["_INPUT"].args == (2.0,)
    assert tr.nodes["_RETURN"].value is tr.nodes["y"].value


def test_trace_as_context_and_as_decorator():
    with handlers.trace() as t:
        model()
    assert t.trace.stochastic_nodes == ["x", "y"]

    @handlers.trace
    def traced():
        return model()

    assert traced.get_trace().stochastic_nodes == ["x", "y"]
    assert traced.__name__ == "traced"


def test_sites_answer_to_pyros_keys():
    site = handlers.trace(model).get_trace().nodes["x"]
    assert site["value"] is site.value
    assert site["cond_indep_stack"] == () and site["type"] == "sample"
    assert site.get("nothing", 3) == 3


def test_a_copied_trace_is_independent():
    tr = handlers.trace(model).get_trace()
    twin = tr.copy()
    twin.nodes["x"].value = None
    assert tr.nodes["x"].value is not None


def test_a_name_used_twice():
    def twice():
        sample("x", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(0.0, 1.0))

    expected = r"(?s)Multiple sample sites named 'x'.*test_handlers.py, line \d+.*first used at"
    with pytest.raises(errors.ModelError, match=expected):
        handlers.trace(twice).get_trace()


def test_a_name_of_two_kinds():
    def both():
        param("x", torch.tensor(0.0))
        sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(errors.ModelError, match="'x' is already in the trace as a param site"):
        handlers.trace(both).get_trace()


def test_replay_repeats_what_it_has_and_draws_the_rest():
    tr = handlers.trace(lambda: sample("x", dist.Normal(0.0, 1.0))).get_trace()
    again = handlers.trace(handlers.replay(model, trace=tr)).get_trace()
    assert again.nodes["x"].value is tr.nodes["x"].value
    assert not again.nodes["x"].is_observed


def test_replay_leaves_observed_sites_alone():
    data = torch.tensor(9.0)
    tr = handlers.trace(model).get_trace()
    conditioned = handlers.condition(model, data={"y": data})
    again = handlers.trace(handlers.replay(conditioned, trace=tr)).get_trace()
    assert again.nodes["y"].value is data and again.nodes["x"].value is tr.nodes["x"].value


def test_replay_puts_parameters_in_place():
    program = handlers.replay(
        lambda: param("p", torch.tensor(1.0)), params={"p": torch.tensor(4.0)}
    )
    assert program() == 4.0
    assert "p" not in pplkit.get_param_store()


def test_condition_is_obs_from_outside():
    tr = handlers.trace(handlers.condition(model, data={"x": 1.5})).get_trace()
    assert tr.nodes["x"].is_observed and tr.nodes["x"].value == 1.5
    assert not tr.nodes["y"].is_observed
    unobserved = handlers.condition(handlers.condition(model, {"x": 1.5}), data={"x": None})
    assert not handlers.trace(unobserved).get_trace().nodes["x"].is_observed


def test_a_parameter_substituted_and_then_lifted_is_a_variable_of_that_value():
    def model():
        return param("loc", torch.tensor(0.0))

    fixed = handlers.substitute(model, data={"loc": torch.tensor(1.5)})
    tr = handlers.trace(handlers.lift(fixed, prior=dist.Normal(0.0, 1.0))).get_trace()
    assert tr.stochastic_nodes == ["loc"] and tr.nodes["loc"].value == 1.5


@pytest.mark.parametrize(
    ("weigh", "words"),
    [
        (lambda m: handlers.mask(m, mask=torch.ones(4).bool()), r"mask of shape \(4,\)"),
        (lambda m: handlers.scale(m, scale=torch.ones(4)), r"scale of shape \(4,\)"),
        (
            lambda m: handlers.mask(
                handlers.mask(m, mask=torch.ones(4).bool()), mask=torch.ones(2).bool()
            ),
            "two masks that do not broadcast",
        ),
        (
            lambda m: handlers.scale(handlers.scale(m, scale=torch.ones(4)), scale=torch.ones(2)),
            "two scales that do not broadcast",
        ),
    ],
)
def test_weights_of_a_wrong_shape_name_the_site(weigh, words):
    def model():
        with plate("data", 3):
            sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(errors.ShapeError, match=f"at site 'x': {words}") as caught:
        handlers.trace(weigh(model)).get_trace().log_prob_sum()
    assert caught.value.where.filename == __file__


def test_condition_inside_a_plate():
    def rows():
        with plate("data", 3):
            return sample("x", dist.Normal(0.0, 1.0))

    data = torch.arange(3.0)
    assert handlers.condition(rows, data={"x": data})() is data
    with pytest.raises(errors.ShapeError, match="3 rows, the observed value 4"):
        handlers.condition(rows, data={"x": torch.zeros(4)})()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({}, []),
        ({"hide": ["x"]}, ["y"]),
        ({"expose": ["x"]}, ["x"]),
        ({"hide_fn": lambda site: site.name == "y"}, ["x"]),
        ({"expose_fn": lambda site: site.name == "y"}, ["y"]),
        ({"hide_types": ["sample"]}, []),
        ({"expose_types": ["sample"]}, ["x", "y"]),
        ({"hide_types": ["observe"]}, ["x", "y"]),
        ({"expose_types": ["observe"]}, []),
        ({"hide": []}, ["x", "y"]),
        ({"expose_all": True}, ["x", "y"]),
    ],
)
def test_block_hides(arguments, shown):
    tr = handlers.trace(handlers.block(model, **arguments)).get_trace()
    assert tr.stochastic_nodes == shown


def test_block_tells_observed_from_drawn():
    observed = handlers.condition(model, data={"y": torch.tensor(0.0)})
    hidden = handlers.trace(handlers.block(observed, hide_types=["observe"])).get_trace()
    assert hidden.stochastic_nodes == ["x"] and hidden.observation_nodes == []
    hidden = handlers.trace(handlers.block(observed, hide_types=["sample"])).get_trace()
    assert hidden.stochastic_nodes == [] and hidden.observation_nodes == ["y"]


def test_block_hides_only_from_outside():
    inner = handlers.trace(model)
    assert handlers.trace(handlers.block(inner)).get_trace().stochastic_nodes == []
    assert inner.trace.stochastic_nodes == ["x", "y"]


def test_block_says_what_it_cannot_do():
    with pytest.raises(errors.UsageError, match="both what to hide and what to expose"):
        handlers.block(model, hide=["x"], expose=["y"])
    with pytest.raises(errors.UsageError, match=r"(?s)block cannot use this hide.*\['x'\]"):
        handlers.block(model, hide="x")


def test_seed_repeats_itself():
    seeded = handlers.seed(model, rng_seed=3)
    assert seeded() == seeded()
    assert seeded() != handlers.seed(model, rng_seed=4)()


def test_seed_leaves_torch_alone():
    before = torch.get_rng_state()
    with handlers.seed(rng_seed=3):
        model()
        dist.Gamma(2.0, 1.0).sample((4,))
    assert torch.equal(before, torch.get_rng_state())


def test_seed_reaches_behind_a_block():
    hidden = handlers.seed(handlers.block(model), rng_seed=0)
    assert hidden() == hidden()


def test_the_inner_seed_wins_and_the_outer_goes_on():
    with handlers.seed(rng_seed=0):
        first, second = model(), model()
    with handlers.seed(rng_seed=0):
        again = model()
        with handlers.seed(rng_seed=5):
            other = model()
        rest = model()
    with handlers.seed(rng_seed=5):
        assert other == model()
    assert (first, second) == (again, rest)


def test_a_seeded_stream_is_torchs_of_that_seed():
    with handlers.seed(rng_seed=11):
        ours = dist.Normal(torch.zeros(5), 1.0).sample()
    torch.manual_seed(11)
    assert torch.equal(ours, torch.distributions.Normal(torch.zeros(5), 1.0).sample())


@pytest.mark.parametrize("rng_seed", [None, -1, 2**32, 1.5, "a", True])
def test_seeds_that_are_none(rng_seed):
    with pytest.raises(errors.UsageError, match="seed cannot use this rng_seed"):
        handlers.seed(model, rng_seed=rng_seed)


def test_mask_and_scale():
    def rows():
        with plate("data", 2):
            sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(2))

    one = -0.9189385
    masked = handlers.mask(handlers.scale(rows, scale=3.0), mask=torch.tensor([True, False]))
    site = handlers.trace(masked).get_trace().nodes["x"]
    torch.testing.assert_close(site.log_prob, torch.tensor([3 * one, 0.0]))
    nested = handlers.scale(handlers.scale(rows, scale=3.0), scale=2.0)
    torch.testing.assert_close(
        handlers.trace(nested).get_trace().log_prob_sum(), torch.tensor(12 * one)
    )
    off = handlers.trace(handlers.mask(rows, mask=False)).get_trace()
    assert off.log_prob_sum() == 0.0


def test_a_masked_infinity_counts_for_nothing():
    def model():
        sample("x", dist.Delta(torch.zeros(2)), obs=torch.tensor([0.0, 1.0]))

    keep = torch.tensor([True, False])
    assert handlers.trace(handlers.mask(model, mask=keep)).get_trace().log_prob_sum() == 0.0


def test_substitute_draws_nothing_and_observes_nothing():
    tr = handlers.trace(handlers.substitute(model, data={"x": torch.tensor(2.0)})).get_trace()
    assert tr.nodes["x"].value == 2.0 and not tr.nodes["x"].is_observed


def test_a_handler_of_ones_own():
    class doubled(Handler):
        def postprocess_message(self, msg):
            if msg.type == "sample":
                msg.value = 2 * msg.value

    with handlers.seed(rng_seed=0):
        once = model()
    with handlers.seed(rng_seed=0), doubled():
        twice = sample("x", dist.Normal(0.0, 1.0))
    with handlers.seed(rng_seed=0):
        assert twice == 2 * sample("x", dist.Normal(0.0, 1.0))
    assert once is not None


def test_a_method_can_be_decorated():
    class Model:
        loc = 3.0

        @handlers.condition(data={"x": torch.tensor(1.0)})
        def run(self):
            return sample("x", dist.Normal(self.loc, 1.0))

    assert Model().run() == 1.0


def test_one_handler_object_in_two_threads():
    seeded, results = handlers.seed(model, rng_seed=0), []
    threads = [threading.Thread(target=lambda: results.append(seeded())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value.item() for value in results}) == 1


def test_recursion():
    @handlers.seed(rng_seed=0)
    def geometric(depth=0):
        stop = sample(f"stop_{depth}", dist.Bernoulli(0.0 if depth < 3 else 1.0))
        return depth if stop else geometric(depth + 1)

    assert geometric() == 3
    assert active_handlers() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: handlers.condition({"x": 1.0}), "did you mean to pass it as a keyword arg"),
        (lambda: handlers.condition(model), "condition cannot use this data"),
        (lambda: handlers.replay(model), "replay needs trace="),
        (lambda: handlers.replay(model, trace={"x": 1}), "replay cannot use this trace"),
        (lambda: handlers.scale(model, scale=-1), "scale cannot use this scale"),
        (lambda: handlers.mask(model, mask=torch.ones(2)), "mask cannot use this mask"),
        (lambda: handlers.seed(rng_seed=0)(1, 2), "without a model to run"),
        (lambda: sample(dist.Normal(0.0, 1.0), "x"), "sample needs a name first"),
        (lambda: sample("x", 3.0), "site 'x' has no distribution"),
        (lambda: sample("x", dist.Normal(0.0, 1.0), obs="three"), "site 'x' was given a value"),
        (lambda: plate(3, 2), "plate needs a name first"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(errors.UsageError, match=message) as caught:
        call()
    assert caught.value.where.filename == __file__


def test_do_cuts_the_arrow_into_the_site():
    loc = torch.tensor(0.0)
    tr = handlers.trace(handlers.do(model, data={"x": 5.0})).get_trace(loc)
    assert tr.stochastic_nodes == ["x", "y"]
    assert tr.nodes["x"].value != 5.0  # what x would have been
    assert tr.nodes["y"].fn.loc == 5.0  # what y was told


def test_do_seen_from_inside():
    inner = handlers.trace(model)
    handlers.do(inner, data={"x": torch.tensor(5.0)})()
    assert inner.trace.nodes["x__CF"].value == 5.0 and "x" not in inner.trace


def test_do_inside_a_subsampled_plate_counts_the_plate_once():
    def rows():
        with plate("data", 10, subsample_size=5):
            x = sample("x", dist.Normal(0.0, 1.0))
            return sample("y", dist.Normal(x, 1.0))

    tr = handlers.trace(handlers.do(rows, data={"x": torch.zeros(5)})).get_trace()
    assert [f.name for f in tr.nodes["x"].plates] == ["data"] and tr.nodes["x"].scale == 2.0


def test_uncondition_draws_what_was_observed():
    def observed():
        sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(9.0))
        factor("penalty", torch.tensor(-1.0))

    tr = handlers.trace(handlers.uncondition(observed)).get_trace()
    assert tr.stochastic_nodes == ["x"] and tr.nodes["x"].infer["was_observed"]
    assert tr.nodes["x"].value != 9.0


def test_lift_draws_a_parameter_once_a_run():
    def program():
        return param("p", torch.tensor(0.0)), param("p"), param("q", torch.tensor(1.0))

    lifted = handlers.lift(program, prior={"p": dist.Normal(0.0, 1.0)})
    tr = handlers.trace(lifted).get_trace()
    first, second, _ = tr.nodes["_RETURN"].value
    assert tr.stochastic_nodes == ["p"] and tr.param_nodes == ["q"] and first is second
    assert lifted()[0] != lifted()[0]
    assert "p" not in pplkit.get_param_store()


def test_scope_lets_a_model_be_used_twice():
    def program():
        for side in ("left", "right"):
            handlers.scope(model, prefix=side)()

    tr = handlers.trace(program).get_trace()
    assert tr.stochastic_nodes == ["left/x", "left/y", "right/x", "right/y"]
    assert handlers.trace(handlers.scope(model)).get_trace().stochastic_nodes[0] == "model/x"


def test_infer_config_adds_advice():
    tr = handlers.trace(
        handlers.infer_config(model, config_fn=lambda s: {"k": 1} if s.name == "x" else {})
    ).get_trace()
    assert tr.nodes["x"].infer == {"k": 1} and tr.nodes["y"].infer == {}


def test_partly_observed_rows():
    data = torch.tensor([1.0, float("nan"), 3.0])
    seen = ~torch.isnan(data)

    def program():
        with plate("data", 3):
            return sample("x", dist.Normal(0.0, 1.0), obs=data.nan_to_num(), obs_mask=seen)

    tr = handlers.trace(program).get_trace()
    assert tr.observation_nodes == ["x_observed"] and tr.stochastic_nodes == ["x_unobserved"]
    assert tr.nodes["x"].type == "deterministic"
    value = tr.nodes["_RETURN"].value
    assert value[0] == 1.0 and value[2] == 3.0 and value[1] == tr.nodes["x_unobserved"].value[1]
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(tr.log_prob_sum(), normal.log_prob(value).sum())
    with pytest.raises(errors.UsageError, match="(?s)'x' cannot use this obs_mask.*isnan"):
        sample("x", dist.Normal(0.0, 1.0), obs=data, obs_mask=torch.ones(3))


def test_subsample_and_param_follow_the_rows_of_a_plate():
    data = torch.arange(20.0).reshape(10, 2)

    def program():
        with plate("data", 10, subsample_size=3) as i:
            rows = subsample(data, event_dim=1)
            own = param("own", torch.zeros(10), event_dim=0)
            shared = param("shared", torch.zeros(10))
            return i, rows, own, shared

    assert handlers.trace(program).get_trace().nodes["_RETURN"].value[1].shape == (3, 2)
    i, rows, own, shared = program()
    assert torch.equal(rows, data[i]) and own.shape == (3,) and shared.shape == (10,)
    with pytest.raises(errors.ShapeError, match="(?s)one row for each of plate 'data'.*7 rows"):
        with plate("data", 10, subsample_size=3):
            subsample(torch.zeros(7), event_dim=0)


def test_a_trace_keeps_what_it_saw():
    def program():
        with plate("data", 4, subsample_size=2):
            return param("p", torch.zeros(4), event_dim=0)

    tr = handlers.trace(program).get_trace()
    assert tr.nodes["p"].value.shape == (4,) and tr.nodes["_RETURN"].value.shape == (2,)


def test_plate_stack():
    with plate_stack("p", [4, 3, 2]):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (4, 3, 2)
    with plate_stack("p", [4, 3], rightmost_dim=-2):
        assert sample("x", dist.Normal(torch.zeros(5), 1.0)).shape == (4, 3, 5)
    assert active_handlers() == []


def test_markov_remembers_its_last_steps():
    def chain(history):
        for t in markov(range(4), history=history):
            sample(f"x_{t}", dist.Normal(0.0, 1.0))

    for history in (0, 1, 2):
        tr = handlers.trace(chain).get_trace(history)
        seen = [set(tr.nodes[f"x_{t}"].infer["_markov_scope"]) for t in range(4)]
        assert seen == [{f"x_{s}" for s in range(max(0, t - history), t)} for t in range(4)]

    @markov
    def step(t):
        sample(f"y_{t}", dist.Normal(0.0, 1.0))
        return t if t == 2 else step(t + 1)

    tr = handlers.trace(step).get_trace(0)
    assert set(tr.nodes["y_2"].infer["_markov_scope"]) == {"y_1"}


def test_reparameterised_sites_keep_their_meaning():
    def program():
        with plate("rows", 50_000):
            sample("x", dist.Normal(3.0, 2.0))
            sample("y", dist.LogNormal(0.0, 0.5))

    config = {"x": LocScaleReparam(0.3), "y": TransformReparam()}
    reparameterised = handlers.reparam(program, config=config)
    tr = handlers.trace(handlers.seed(reparameterised, rng_seed=0)).get_trace()
    assert tr.stochastic_nodes == ["x_decentered", "y_base"]
    x, y = tr.nodes["x"].value, tr.nodes["y"].value
    assert abs(x.mean() - 3.0) < 0.04 and abs(x.std() - 2.0) < 0.03
    assert abs(y.log().mean()) < 0.01 and abs(y.log().std() - 0.5) < 0.01
    assert [f.name for f in tr.nodes["x"].plates] == ["rows"]


def test_a_learnt_centring():
    program = handlers.reparam(lambda: sample("x", dist.Normal(3.0, 2.0)), {"x": LocScaleReparam()})
    tr = handlers.trace(program).get_trace()
    assert tr.nodes["x_centered"].value == 0.5 and tr.nodes["x_decentered"].fn.loc == 1.5


@pytest.mark.parametrize(
    ("site", "strategy", "message"),
    [
        (lambda: sample("x", dist.Normal(0.0, 1.0), obs=1.0), LocScaleReparam(0.0), "is observed"),
        (lambda: sample("x", dist.Gamma(1.0, 1.0)), LocScaleReparam(0.0), "location-scale"),
        (lambda: sample("x", dist.Normal(0.0, 1.0)), TransformReparam(), "TransformedDistribution"),
    ],
)
def test_what_cannot_be_reparameterised(site, strategy, message):
    with pytest.raises(errors.ModelError, match=f"(?s)'x'.*{message}"):
        handlers.reparam(site, config={"x": strategy})()


def test_a_lifted_parameter_read_again_has_the_rows_that_it_had():
    """Among the rows of a subsampled plate too: the variable is one, whole."""

    def program():
        with plate("rows", 3, subsample=torch.tensor([1])):
            return [param("p", torch.zeros(3), event_dim=0) for _ in range(2)]

    one, two = handlers.lift(program, prior=dist.Normal(0.0, 1.0).expand([3]).to_event(1))()
    assert torch.equal(one, two) and one.shape == (3,)
    one, two = handlers.lift(program, prior=lambda: torch.ones(3))()
    assert torch.equal(one, two) and one.shape == (3,)


def bar(steps):
    """As a progress bar hands on what it goes over."""
    for step in steps:  # noqa: UP028
        yield step


AROUND = {"bare": iter, "enumerate": enumerate, "a generator": bar}
AROUND |= {"zip": lambda loop: zip(loop, "abc", strict=True), "map": lambda loop: map(str, loop)}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("kind", ["plate", "markov"])
def test_a_loop_is_in_force_for_the_generator_that_made_it(kind, around):
    def steps():
        for _ in around(plate("rows", 3) if kind == "plate" else markov(range(3))):
            yield len(active_handlers())

    run = steps()
    for _ in range(2):
        assert next(run) == 1
        assert active_handlers() == []
    with handlers.block():
        assert next(run) == 2
    assert list(run) == [] and effects._STACK.get() == ()


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("kind", ["plate", "markov"])
def test_a_loop_is_in_force_in_a_functions_block_whatever_hands_it_on(kind, around):
    for _ in around(plate("rows", 3) if kind == "plate" else markov(range(3))):
        assert len(active_handlers()) == 1
    assert effects._STACK.get() == ()


def test_a_loop_that_a_generator_made_for_others_is_in_force_where_it_runs():
    def makes():
        yield plate("rows", 2)

    maker = makes()
    made = next(maker)
    assert [len(active_handlers()) for _ in made] == [1, 1]
    maker.close()
    assert [len(active_handlers()) for _ in made] == [1, 1]
