"""Mistakes about handlers' names, guides, parameters, failing numbers and devices."""

import warnings

import pytest
import torch

import pplkit.distributions as dist
from pplkit import (
    clear_param_store,
    deterministic,
    errors,
    factor,
    get_param_store,
    handlers,
    param,
    plate,
    sample,
)
from pplkit.distributions import constraints
from pplkit.infer import SVI, Predictive, Trace_ELBO
from pplkit.infer.autoguide import AutoNormal, init_to_median, init_to_value
from pplkit.infer.reparam import LocScaleReparam
from pplkit.optim import Adam

DATA = torch.zeros(3)


def model(data=DATA):
    loc = param("loc", torch.tensor(0.0))
    theta = sample("theta", dist.Normal(loc, 1.0))
    twice = deterministic("twice", 2 * theta)
    with plate("rows", 3):
        sample("y", dist.Normal(twice, 1.0), obs=data)


def told(run, *args) -> list[errors.PplkitWarning]:
    """What a call warns of; every time, though Python would show a warning once."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        run(*args)
    return [w.message for w in shown if isinstance(w.message, errors.PplkitWarning)]


def svi(model, guide, lr=0.1, loss=None, optim=None):
    return SVI(model, guide, optim or Adam({"lr": lr}), loss or Trace_ELBO())


# -- names that handlers are given ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "wrong", "near"),
    [
        (lambda: handlers.condition(model, data={"thta": 1.0}), "thta", "theta"),
        (lambda: handlers.do(model, data={"thta": 1.0}), "thta", "theta"),
        (lambda: handlers.substitute(model, data={"lok": 1.0}), "lok", "loc"),
        (lambda: handlers.block(model, hide=["rosw"]), "rosw", "rows"),
        (lambda: handlers.block(model, expose=["thta"]), "thta", "theta"),
        (lambda: handlers.lift(model, prior={"lok": dist.Normal(0.0, 1.0)}), "lok", "loc"),
        (lambda: handlers.reparam(model, config={"thta": LocScaleReparam()}), "thta", "theta"),
        (lambda: handlers.replay(model, params={"lok": torch.tensor(0.0)}), "lok", "loc"),
        (
            lambda: handlers.condition(handlers.scope(model, prefix="a"), data={"theta": 1.0}),
            "theta",
            "a/theta",
        ),
        (
            lambda: handlers.scope(handlers.condition(model, data={"a/theta": 1.0}), prefix="a"),
            "a/theta",
            "theta",
        ),
    ],
)
def test_a_misspelt_name_is_told_with_the_nearest_and_the_handlers_line(handler, wrong, near):
    made = handler()
    (warning,) = told(made)
    assert warning.site == wrong and warning.where.filename == __file__
    assert warning.remedy == f"did you mean {near!r}?"
    assert told(made) == [], "once for each handler and name"


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (lambda: handlers.condition(model, data={"loc": 1.0}), "it is a parameter"),
        (lambda: handlers.condition(model, data={"twice": 1.0}), "it is a deterministic site"),
        (lambda: handlers.condition(model, data={"rows": 1.0}), "it is a plate"),
        (lambda: handlers.do(model, data={"loc": 1.0}), "it is a parameter"),
        (lambda: handlers.substitute(model, data={"y": DATA}), "it is observed"),
        (lambda: handlers.lift(model, prior={"theta": dist.Normal(0.0, 1.0)}), "that is drawn"),
    ],
)
def test_a_name_of_another_kind_is_told_as_what_it_is(handler, words):
    (warning,) = told(handler())
    assert words in warning.headline and "line" in warning.found and warning.remedy


def test_a_hidden_site_is_told_to_be_hidden():
    hidden = handlers.block(model, hide=["theta"])
    (warning,) = told(handlers.condition(hidden, data={"theta": 1.0}))
    assert warning.headline == "condition does not see 'theta': block, further in, hides it"
    assert told(handlers.block(hidden, hide=["theta"])) == [], "hidden already: as was asked"


def test_with_around_several_runs_is_told_at_its_end_and_not_when_it_failed():
    def other():
        sample("z", dist.Normal(0.0, 1.0))

    def both():
        with handlers.condition(data={"theta": 1.0, "z": 1.0, "zz": 1.0}):
            model()
            other()

    assert [w.site for w in told(both)] == ["zz"]

    def failed():
        with pytest.raises(ZeroDivisionError), handlers.condition(data={"zz": 1.0}):
            other()
            raise ZeroDivisionError

    assert told(failed) == []


def test_a_name_met_in_one_run_is_the_programs():
    def sometimes(wide):
        sample("wide" if wide else "narrow", dist.Normal(0.0, 1.0))

    conditioned = handlers.condition(sometimes, data={"wide": 1.0})
    assert told(conditioned, True) == [] and told(conditioned, False) == []


def test_a_handler_on_two_programs_is_told_for_each():
    fixed = handlers.condition(data={"thta": 1.0})
    one, other = fixed(model), fixed(model)
    assert len(told(one)) == len(told(other)) == 1


def test_a_recursive_program_is_told_once_it_has_ended():
    @handlers.condition(data={"x_2": torch.tensor(1.0), "x_9": torch.tensor(1.0)})
    def chain(n):
        sample(f"x_{n}", dist.Normal(0.0, 1.0))
        if n < 2:
            chain(n + 1)

    assert [w.site for w in told(chain, 0)] == ["x_9"]


def test_thousands_of_steps_are_told_once():
    def guide():
        sample("theta", dist.Normal(param("m", torch.tensor(0.0)), 1.0))

    inference = svi(handlers.condition(model, data={"thta": 1.0}), guide)
    assert [w.site for w in told(lambda: [inference.step() for _ in range(20)])] == ["thta"]


def test_predictive_tells_of_samples_that_nothing_takes():
    predictive = Predictive(model, {"thta": torch.zeros(3)})
    (warning,) = told(predictive)
    assert warning.site == "thta" and "'theta'" in warning.remedy
    assert told(predictive) == []
    automatic = AutoNormal(model)
    automatic()
    drawn = Predictive(automatic, num_samples=3)()
    assert "theta_unconstrained" in drawn
    assert told(Predictive(model, drawn)) == [], "an automatic guide's own draws are no mistake"


def test_first_values_for_names_that_there_are_not():
    start = init_to_median(fallback=init_to_value(values={"thta": torch.tensor(0.0)}))
    assert [w.site for w in told(AutoNormal(model, init_loc_fn=start))] == ["thta"]
    start = init_to_value(values={"y": DATA, "theta": torch.tensor(0.0)})
    (warning,) = told(AutoNormal(model, init_loc_fn=start))
    assert "it is observed" in warning.headline


def test_a_value_from_condition_is_told_with_conditions_line():
    conditioned = handlers.condition(lambda: sample("x", dist.Gamma(1.0, 1.0)), data={"x": -1.0})
    line = conditioned.given_names.where.line
    with pytest.raises(errors.DistributionError, match=f"; from condition at .*line {line}"):
        conditioned()


# -- guide and model -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "fits"),
    [
        (dist.Normal(0.0, 1.0), dist.Gamma(1.0, 1.0), False),
        (dist.Normal(0.0, 1.0), dist.Beta(1.0, 1.0), False),
        (dist.Cauchy(0.0, 1.0).expand([2]).to_event(1), dist.Dirichlet(torch.ones(2)), False),
        (
            dist.Normal(torch.zeros(2), 1.0).to_event(1),
            dist.Gamma(torch.ones(2), 1.0).to_event(1),
            False,
        ),
        (dist.Normal(0.0, 1.0), dist.StudentT(3.0), True),
        (dist.LogNormal(0.0, 1.0), dist.Gamma(1.0, 1.0), True),
        (dist.Delta(torch.tensor(1.0)), dist.Gamma(1.0, 1.0), True),
        (dist.Uniform(0.0, 1.0), dist.Beta(1.0, 1.0), True),
    ],
)
def test_a_guide_of_another_support_is_told_before_a_draw_falls_outside(theirs, ours, fits):
    def run():
        Trace_ELBO().loss(lambda: sample("z", ours), lambda: sample("z", theirs))

    if fits:
        run()
        return
    with pytest.raises(errors.ModelError, match="(?s)'z' from outside the model's support"):
        run()


def test_plates_that_draw_different_rows():
    def ours():
        with plate("data", 10, subsample_size=2):
            sample("z", dist.Normal(0.0, 1.0))

    def theirs():
        with plate("rows", 10, subsample_size=2):
            sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(errors.PlateError, match="(?s)'z' by different plates.*'rows'.*'data'"):
        Trace_ELBO().loss(ours, theirs)
    Trace_ELBO().loss(ours, ours)


def test_wrong_arguments_are_told_but_a_type_error_inside_is_the_programs_own():
    with pytest.raises(errors.UsageError, match=r"(?s)model\(data.*was called.*x=1"):
        svi(lambda x: model(), model).loss.loss(model, lambda x: None, x=1)

    def broken():
        return 1 + "one"

    with pytest.raises(TypeError, match="unsupported operand") as caught:
        Trace_ELBO().loss(broken, lambda: None)
    assert not isinstance(caught.value, errors.PplkitError)


def test_a_factor_in_a_guide_observes_nothing():
    def theirs():
        sample("z", dist.Normal(0.0, 1.0))
        factor("penalty", torch.tensor(1.0))

    Trace_ELBO().loss(lambda: sample("z", dist.Normal(0.0, 1.0)), theirs)


# -- parameters --------------------------------------------------------------------------------------


def target():
    sample("z", dist.Normal(3.0, 1.0))


def new_guide():
    def guide():
        sample("z", dist.Normal(param("m", torch.tensor(0.0)), 1.0))

    return guide


def test_values_left_over_from_another_fit_are_told_once():
    guide, second, optim = new_guide(), new_guide(), Adam({"lr": 0.1})
    assert told(svi(target, guide, optim=optim).step) == []
    assert told(svi(target, guide).step) == [], "the same guide goes on"
    assert told(svi(target, second, optim=optim).step) == [], "the same optimiser goes on"
    third = svi(target, new_guide())
    (warning,) = told(third.run, 2)
    assert warning.site == "m" and "left over from an earlier run" in warning.headline
    assert told(third.step) == []
    clear_param_store()
    assert told(svi(target, new_guide()).step) == []


def test_values_that_were_set_or_loaded_are_no_leftovers(tmp_path):
    svi(target, new_guide()).step()
    get_param_store()["m"] = torch.tensor(1.0)
    assert told(svi(target, new_guide()).step) == []
    get_param_store().save(tmp_path / "fit")
    get_param_store().load(tmp_path / "fit")
    assert told(svi(target, new_guide()).step) == []


@pytest.mark.parametrize("how", ["step", "run"])
def test_a_parameter_that_nothing_moves_is_told_in_the_first_step(how):
    def guide():
        param("idle", torch.tensor(0.0))
        sample("z", dist.Normal(param("m", torch.tensor(0.0)), 1.0))

    inference = svi(target, guide)
    (warning,) = told(inference.step) if how == "step" else told(inference.run, 5)
    assert warning.headline == "no gradient reaches parameter 'idle'"
    assert warning.where.line == guide.__code__.co_firstlineno + 1
    assert told(inference.step) == []


def test_a_start_that_is_computed_from_a_parameter():
    assert [w.site for w in told(lambda: param("b", 2 * param("a", torch.ones(()))))] == ["b"]
    assert told(lambda: param("c", torch.ones((), requires_grad=True))) == []


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(errors.UsageError, match="inference_mode"):
        svi(target, new_guide()).step()
    with torch.no_grad():
        svi(target, new_guide()).step()
    assert get_param_store()["m"].item() != 0.0


# -- numbers that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["step", "run"])
def test_the_first_statement_is_named_with_its_element_and_the_step(how):
    def failing():
        scale = param("log_scale", torch.tensor(-2.0)).exp()
        with plate("rows", 3):
            sample("y", dist.Normal(torch.arange(3.0), scale), obs=torch.tensor([0.0, 1.0, 5.0]))

    inference = svi(failing, lambda: None, lr=50.0)
    get_param_store()["log_scale"] = torch.tensor(-60.0)
    with pytest.raises(errors.InferenceError) as caught:
        inference.step() if how == "step" else inference.run(3)
    fault = caught.value
    assert fault.site == "y" and "step 1 is not finite" in fault.headline
    assert "-inf at [2], 1 of 3, of value 5 under Normal(loc=2, scale=8.75651e-27)" in fault.found


def test_a_parameter_that_is_not_a_number_is_the_first():
    def guide():
        m = param("m", torch.zeros(2))
        deterministic("after", m + 1)
        sample("z", dist.Normal(m.sum(), 1.0))

    inference = svi(target, guide)
    inference.step()
    with torch.no_grad():
        get_param_store().unconstrained("m")[1] = torch.nan
    with pytest.raises(errors.PplkitError) as caught:
        inference.step()
    assert "nan" in str(caught.value) and caught.value.where.filename == __file__


def test_a_gradient_that_a_mask_hides_names_its_site():
    class Rooted(dist.Normal):
        def log_prob(self, value):
            return super().log_prob(value) + (self.loc * 0).sqrt()

    def failing():
        z = sample("z", dist.Normal(3.0, 1.0))
        with handlers.mask(mask=torch.tensor(False)):
            sample("w", Rooted(z, 1.0), obs=torch.tensor(0.0))

    with pytest.raises(errors.InferenceError) as caught:
        svi(failing, new_guide()).step()
    assert caught.value.site == "w"
    assert "the gradient of parameter 'm': nan, at 0; it comes from site 'w', by the loc of" in (
        caught.value.found
    )


# -- devices -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "obs", "words"),
    [
        (
            lambda m: dist.Normal(m, torch.ones(3)),
            None,
            "loc of Normal on meta, scale of Normal on",
        ),
        (lambda m: dist.Normal(m, torch.ones(3)), torch.zeros(3), "loc of Normal on meta"),
        (lambda m: dist.Normal(torch.zeros(3), 1.0), "meta", "the value on meta"),
        (lambda m: dist.Normal(torch.zeros(3), 1.0).to_event(1), "meta", "the value on meta"),
    ],
)
def test_tensors_on_two_devices(fn, obs, words):
    meta = torch.zeros(3, device="meta")
    obs = meta if isinstance(obs, str) else obs
    with pytest.raises(errors.DistributionError, match=f"(?s)same device at site 'x'.*{words}"):
        handlers.trace(lambda: sample("x", fn(meta), obs=obs)).get_trace().log_prob_sum()


def test_a_failure_that_is_not_about_devices_is_left_alone():
    class Broken(dist.Normal):
        def log_prob(self, value):
            raise RuntimeError("mine")

    run = handlers.trace(lambda: sample("x", Broken(0.0, 1.0), obs=0.0)).get_trace()
    with pytest.raises(RuntimeError, match="^mine$"):
        run.log_prob_sum()


# -- constraints ---------------------------------------------------------------------------------------


def test_two_constraints_for_one_parameter():
    def twice():
        param("s", torch.tensor(1.0))
        param("s", torch.tensor(1.0), constraint=constraints.positive)

    with pytest.raises(
        errors.ParamError, match="(?s)another constraint.*two statements of one run"
    ):
        twice()
