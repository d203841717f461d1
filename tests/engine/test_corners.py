"""The hard corners, each in a test of its own; and fits that land where they are known to.

The fits draw many particles a step, so that a few hundred steps are enough. Tolerances are in units
of the posterior's own spread, and each says what it leaves room for.
"""

import math

import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import handlers, param, plate, sample
from pplkit.infer import SVI, Trace_ELBO
from pplkit.optim import Adam, ClippedAdam
from tests.models import EIGHT_SCHOOLS_PUBLISHED, ENTRIES, backend

LOCATION = torch.tensor([1.2, 0.8, 1.5, -0.3], dtype=torch.float64)


def trace_of(fn, *args):
    return handlers.trace(fn).get_trace(*args)


def known_normal(loc, sd):
    """A Normal in float64 whose density is computed outside the engine."""
    return torch.distributions.Normal(loc, torch.tensor(sd, dtype=torch.float64))


# -- plates ---------------------------------------------------------------------------------------


def test_a_plate_of_one_row_has_a_dimension():
    def model():
        with plate("outer", 1), plate("inner", 3):
            x = sample("x", dist.Normal(0.0, 1.0))
        with plate("inner", 3, dim=-2):
            return x, sample("y", dist.Normal(x, 1.0))

    tr = trace_of(model)
    x, y = tr.nodes["_RETURN"].value
    assert x.shape == y.shape == tr.nodes["x"].log_prob.shape == (3, 1)
    assert {(f.name, f.dim, f.size) for f in tr.nodes["x"].plates} == {
        ("outer", -1, 1), ("inner", -2, 3),
    }  # fmt: skip


def test_a_plate_of_one_row_can_be_a_subsample_of_many():
    def model():
        with plate("data", 10, subsample_size=1) as rows:
            sample("x", dist.Normal(0.0, 1.0), obs=torch.arange(10.0)[rows])

    site = trace_of(model).nodes["x"]
    assert site.value.shape == (1,) and site.scale == 10.0
    expected = 10 * torch.distributions.Normal(0.0, 1.0).log_prob(site.value)
    torch.testing.assert_close(site.log_prob, expected)


def test_two_plates_of_equal_size_stay_apart():
    """A square table: a column's switch must hear of its column, not of the row of that number."""
    table = torch.tensor([[2.0, -1.0], [0.5, 1.5]], dtype=torch.float64)
    levels = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def model():
        with plate("columns", 2, dim=-1):
            on = sample("on", dist.Bernoulli(torch.tensor(0.4).double()))
            with plate("rows", 2, dim=-2):
                sample("obs", dist.Normal(levels[on.long()], 1.0), obs=table)

    def guide():
        start = torch.full((2,), 0.5, dtype=torch.float64)
        with plate("columns", 2, dim=-1):
            sample("on", dist.Bernoulli(param("q", start, dist.constraints.unit_interval)))

    def exact(leaf):
        q, elbo = leaf.sigmoid(), 0.0
        for value, weight, prior in ((1.0, q, 0.4), (-1.0, 1 - q, 0.6)):
            seen = known_normal(value, 1.0).log_prob(table).sum(0)
            elbo = elbo + (weight * (seen + math.log(prior) - weight.log())).sum()
        return elbo

    trace_of(guide)
    leaf = pplkit.get_param_store().unconstrained("q")
    average = torch.zeros(2, dtype=torch.float64)
    for on in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]):
        drawn = handlers.substitute(guide, data={"on": torch.tensor(on, dtype=torch.float64)})
        loss = Trace_ELBO().differentiable_loss(model, drawn)
        average -= torch.autograd.grad(loss, leaf)[0] / 4
    torch.testing.assert_close(average, torch.autograd.grad(exact(leaf), leaf)[0])


def test_one_after_the_other_two_plates_of_equal_size_share_a_dimension():
    def model():
        with plate("left", 3):
            x = sample("x", dist.Normal(0.0, 1.0))
        with plate("right", 3):
            return x + sample("y", dist.Normal(0.0, 1.0))

    tr = trace_of(model)
    assert tr.nodes["_RETURN"].value.shape == (3,)
    assert [f.name for f in tr.nodes["x"].plates] == ["left"]
    assert [f.name for f in tr.nodes["y"].plates] == ["right"]


@pytest.mark.parametrize("looped", [False, True], ids=["vectorised", "looped"])
def test_a_subsample_inside_a_nested_plate_is_scaled(looped):
    """Averaged over every choice of rows, the log-probability is that of all the data."""
    data = torch.arange(12.0, dtype=torch.float64).reshape(4, 3) / 6
    choices = torch.combinations(torch.arange(4), 2)

    def model(rows):
        with plate("columns", 3, dim=-1):
            inner = plate("rows", 4, subsample=rows, dim=None if looped else -2)
            if looped:
                for i in inner:
                    sample(f"x_{i}", known(), obs=data[i])
            else:
                with inner as i:
                    sample("x", known(), obs=data[i])

    def known():
        return dist.Normal(torch.tensor(0.5).double(), 1.0)

    traces = [trace_of(model, rows) for rows in choices]
    assert all(site.scale == 2.0 for tr in traces for site in tr.sites("sample"))
    average = torch.stack([tr.log_prob_sum() for tr in traces]).mean()
    torch.testing.assert_close(average, known_normal(0.5, 1.0).log_prob(data).sum())


def test_subsampled_plates_within_each_other_multiply_their_scales():
    def model():
        with plate("a", 6, subsample_size=3), plate("b", 10, subsample_size=2):
            sample("x", dist.Normal(0.0, 1.0))
        with plate("b", 10, subsample_size=2):
            sample("y", dist.Normal(0.0, 1.0))

    tr = trace_of(model)
    assert tr.nodes["x"].scale == 10.0 and tr.nodes["y"].scale == 5.0


def test_one_plate_object_twice_and_shared_by_model_and_guide():
    """In a run all entries see the same rows, the model those of its guide; each run, new rows."""
    rows = plate("rows", 100, subsample_size=5)
    data, seen = torch.randn(100, dtype=torch.float64), {"guide": [], "model": []}

    def model():
        with rows as i:
            seen["model"].append(i.tolist())
            z = sample("z", dist.Normal(torch.zeros(5).double(), 1.0))
        with rows as i:
            seen["model"].append(i.tolist())
            sample("obs", dist.Normal(z, 1.0), obs=data[i])

    def guide():
        with rows as i:
            seen["guide"].append(i.tolist())
            sample("z", dist.Normal(param("loc", torch.zeros(100).double())[i], 1.0))

    svi = SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(3):
        svi.step()
    runs = len(seen["guide"])
    assert [rows for rows in seen["guide"] for _ in range(2)] == seen["model"][-2 * runs :]
    assert len({tuple(rows) for rows in seen["guide"]}) >= 3
    moved = pplkit.get_param_store()["loc"] != 0
    assert set(moved.nonzero().flatten().tolist()) <= {i for run in seen["guide"] for i in run}


def test_a_plate_object_after_another_was_left_by_an_error():
    rows = plate("rows", 3)
    with pytest.raises(RuntimeError, match="on purpose"), rows:
        raise RuntimeError("on purpose")
    with rows:
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (3,)


# -- control flow in Python -----------------------------------------------------------------------


def geometric(p, toss=0):
    if sample(f"heads_{toss}", dist.Bernoulli(p)):
        return toss
    return geometric(p, toss + 1)


def test_recursion_draws_what_it_says():
    with handlers.seed(rng_seed=0):
        counts = [geometric(0.4) for _ in range(1500)]
    mean = sum(counts) / 1500
    assert abs(mean - 1.5) < 5 * math.sqrt(0.6) / 0.4 / math.sqrt(1500)


def test_recursion_has_one_site_a_call_and_can_be_replayed():
    with handlers.seed(rng_seed=3):
        tr = trace_of(geometric, 0.2)
    count = tr.nodes["_RETURN"].value
    assert tr.stochastic_nodes == [f"heads_{i}" for i in range(count + 1)]
    assert handlers.replay(geometric, trace=tr)(0.2) == count
    torch.testing.assert_close(
        tr.log_prob_sum(), torch.tensor(count * math.log(0.8) + math.log(0.2))
    )


def test_a_function_that_calls_itself_inside_its_own_plate_is_told_so():
    def nested(depth):
        with plate("rows", 2):
            return nested(depth - 1) if depth else sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(pplkit.errors.PlateError, match="'rows' is entered inside itself"):
        nested(1)


def test_a_loop_over_a_plate_is_the_plate_one_row_at_a_time():
    def looped():
        z = sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
        for i in plate("data", 4):
            sample(f"obs_{i}", dist.Normal(z, 0.5), obs=LOCATION[i])

    def vectorised():
        z = sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
        with plate("data", 4):
            sample("obs", dist.Normal(z, 0.5), obs=LOCATION)

    z = {"z": torch.tensor(0.3, dtype=torch.float64)}
    one, other = (trace_of(handlers.condition(fn, data=z)) for fn in (looped, vectorised))
    torch.testing.assert_close(one.log_prob_sum(), other.log_prob_sum())
    rows = torch.stack([one.nodes[f"obs_{i}"].log_prob for i in range(4)])
    torch.testing.assert_close(rows, other.nodes["obs"].log_prob)


def test_loops_in_loops_and_a_plate_in_a_loop():
    def model():
        for i in plate("outer", 2):
            for j in plate("inner", 3):
                sample(f"x_{i}_{j}", dist.Normal(0.0, 1.0))
            with plate(f"rows_{i}", 4):
                sample(f"y_{i}", dist.Normal(0.0, 1.0))

    tr = trace_of(model)
    assert [f.counter for f in tr.nodes["x_1_2"].plates] == [1, 2]
    assert tr.nodes["y_1"].value.shape == (4,)
    assert sample("after", dist.Normal(0.0, 1.0)).shape == ()


# -- float64, and nothing at all ------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 3])
def test_float64_throughout(steps):
    """Parameters, optimiser state, losses and results; numbers in Python take the tensors' type."""
    built = ENTRIES["eight_schools"].build(backend("pplkit"), 8, torch.float64)
    svi = SVI(built.model, built.guide, Adam({"lr": 0.01}), Trace_ELBO(num_particles=2))
    result = svi.run(steps, *built.args)
    floats = [*result.params.values(), *dict(pplkit.get_param_store().named_parameters()).values()]
    floats += [t for state in svi.optim.state.values() for t in state.values()]
    floats = [t for t in floats if t.is_floating_point() and t.dim() > 0]
    assert {t.dtype for t in floats} <= {torch.float64}
    assert bool(floats) == bool(steps)
    if steps:
        assert result.losses.dtype == torch.float64


def test_run_of_no_steps():
    def never(*args):
        raise AssertionError("run(0) runs nothing")

    svi = SVI(never, never, Adam({"lr": 0.1}), Trace_ELBO())
    result = svi.run(0, LOCATION)
    assert result.losses.shape == (0,) and result.params == {}
    assert len(pplkit.get_param_store()) == 0


def test_run_of_no_steps_after_some():
    built = ENTRIES["normal_normal"].build(backend("pplkit"), 4)
    svi = SVI(built.model, built.guide, Adam({"lr": 0.1}), Trace_ELBO())
    reached = svi.run(5, *built.args).params
    again = svi.run(0, *built.args)
    assert again.losses.shape == (0,)
    assert reached.keys() == again.params.keys() == {"z_loc", "z_scale"}
    assert all(torch.equal(reached[name], again.params[name]) for name in reached)


# -- fits -----------------------------------------------------------------------------------------


def fit(name, size, device, lr=0.05, steps=500, particles=64):
    """Fit an entry, the learning rate falling evenly to a hundredth of what it was.

    Returns the program, its truth, the parameters, and the mean loss of the last 100 steps.
    """
    built = ENTRIES[name].build(backend("pplkit"), size, torch.float64, device)
    elbo = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1)
    optimiser = ClippedAdam({"lr": lr, "lrd": 0.01 ** (1 / steps)})
    with handlers.seed(rng_seed=0):
        result = SVI(built.model, built.guide, optimiser, elbo).run(steps, *built.args)
    params = {key: value.cpu() for key, value in result.params.items()}
    return built, built.truth(), params, result.losses[-100:].cpu().mean()


def test_beta_binomial_lands_on_its_posterior(device):
    """Exact guide: what is left is the noise of the last steps, here a tenth of a standard
    deviation in the mean and a tenth of the spread."""
    _, truth, params, loss = fit("beta_binomial", 7, device, lr=0.3)
    found = torch.distributions.Beta(params["a"], params["b"])
    assert abs(found.mean - truth.mean["p"]) < 0.1 * truth.sd["p"]
    assert abs(found.stddev / truth.sd["p"] - 1) < 0.1
    # A guide that is the posterior earns the evidence; one that near to it, all but 0.01.
    assert abs(loss + truth.log_evidence) < 0.01


def test_bayesian_regression_lands_on_its_posterior(device):
    """Full covariance, so exact: noise of the last steps alone."""
    _, truth, params, loss = fit("linear_regression", 30, device)
    sd = params["tril"].square().sum(-1).sqrt()
    assert bool(((params["loc"] - truth.mean["w"]).abs() < 0.1 * truth.sd["w"]).all())
    assert bool(((sd / truth.sd["w"] - 1).abs() < 0.1).all())
    assert abs(loss + truth.log_evidence) < 0.03


def test_mean_field_regression_lands_on_its_optimum(device):
    """A factorised guide has the right means, spreads smaller by a known factor, a known gap."""
    _, truth, params, loss = fit("linear_regression_mean_field", 30, device)
    for site in ("slope", "intercept"):
        assert abs(params[f"{site}_loc"] - truth.mean[site]) < 0.15 * truth.sd[site]
        assert abs(params[f"{site}_scale"] / truth.params[f"{site}_scale"] - 1) < 0.1
        assert params[f"{site}_scale"] < truth.sd[site]
    assert abs(loss + truth.log_evidence - truth.gap) < 0.1


def test_logistic_regression_lands_on_its_posterior(device):
    """300 rows: the posterior is near a Normal with little correlation, and a factorised Normal
    may miss a fifth of a standard deviation in the mean and a tenth in spread."""
    _, truth, params, loss = fit("logistic_regression", 300, device)
    for site in ("a", "b"):
        assert abs(params[f"{site}_loc"] - truth.mean[site]) < 0.2 * truth.sd[site]
        assert abs(params[f"{site}_scale"] / truth.sd[site] - 1) < 0.1
    gap = loss + truth.log_evidence
    assert -0.02 < gap < 0.1


def test_eight_schools_lands_where_published(device):
    """Non-centred, with a factorised guide, which cannot be exact.

    At its optimum (1,500 steps of 256 draws) tau's mean is a fifth of the posterior's spread too
    low, and the gap to the evidence 0.28 nats; mu is right to 0.04 of its spread. The tolerances
    are these, and a tenth of the spread for the noise of a shorter run.
    """
    _, truth, params, loss = fit("eight_schools_noncentred", 8, device, lr=0.1, steps=400)
    tau = torch.distributions.LogNormal(params["tau_loc"], params["tau_scale"]).mean
    found = {"mu": params["mu_loc"], "tau": tau}
    found["theta"] = params["mu_loc"] + tau * params["standard_loc"]  # independent in the guide
    for site, within in (("mu", 0.15), ("tau", 0.3), ("theta", 0.25)):
        published = torch.tensor(EIGHT_SCHOOLS_PUBLISHED[site][0], dtype=torch.float64)
        assert bool(((found[site] - published).abs() < within * truth.sd[site]).all()), site
    assert 0.2 < loss + truth.log_evidence < 0.4


def test_a_linear_autoencoder_reaches_the_likelihood_of_principal_components(device):
    """Tipping and Bishop (1999), eq. 7: with noise variance v the best loadings are those of the
    leading components, eigenvalues less v; no model of this kind can have a higher likelihood."""
    built, _, params, loss = fit("linear_vae", 60, device, particles=16)
    x, v = built.args[0].cpu(), 0.36
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    best = vectors[:, -2:] * (values[-2:] - v).sqrt()

    def log_likelihood(w):
        covariance = w @ w.T + v * torch.eye(5, dtype=torch.float64)
        zero = torch.zeros(5, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x).sum()

    ceiling, reached = log_likelihood(best), log_likelihood(params["loadings"].T)
    # A hundredth of a nat for each picture.
    assert ceiling - 0.6 < reached <= ceiling + 1e-9
    assert abs(-loss - reached) < 0.6


def test_a_small_vae_learns_its_digits(device):
    """Bars, each point flipped with probability 0.04. No model can explain such pictures in fewer
    nats than their entropy, log 4 for the bar and 16 for the flips; independent points need more
    than 9. A good fit comes within two nats of the entropy."""
    entropy = math.log(4) - 16 * (0.04 * math.log(0.04) + 0.96 * math.log(0.96))
    built, _, _, loss = fit("variational_autoencoder", 300, device, lr=0.04, steps=600, particles=1)
    x = built.args[0].cpu()
    lit = x.mean(0)
    independent = torch.distributions.Bernoulli(lit).entropy().sum()
    per_picture = loss / len(x)
    evidence = built.truth().log_evidence / len(x)  # by quadrature, through the learnt decoder
    assert -per_picture < evidence + 0.02
    assert entropy - 0.4 < -evidence < entropy + 2.0 < independent
    assert per_picture < entropy + 2.5
    # A picture comes back: each point's most probable value, from the mean of its guide.
    with torch.no_grad(), handlers.seed(rng_seed=1):
        guide = handlers.trace(built.guide).get_trace(*built.args)
        mean = guide.nodes["z"].fn.mean
        model = handlers.trace(handlers.condition(built.model, data={"z": mean}))
        probs = model.get_trace(*built.args).nodes["x"].fn.base_dist.probs.cpu()
    assert ((probs > 0.5).double() == x).double().mean() > 0.93
