import threading

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, param, plate, sample
from pplkit.effects import Handler, active_handlers


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
        ({"hide": []}, ["x", "y"]),
        ({"expose_all": True}, ["x", "y"]),
    ],
)
def test_block_hides(arguments, shown):
    tr = handlers.trace(handlers.block(model, **arguments)).get_trace()
    assert tr.stochastic_nodes == shown


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
