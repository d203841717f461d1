"""Small programs with discrete variables, each written once for this engine and for Pyro.

A model sums out everything that is marked; where its guide samples something, that is enumerated or
fixed there. All parameters are read by `param`, so that gradients can be compared. `brute_force`
knows nothing of enumeration: it conditions the model on every combination of values, one by one,
and adds up what plain traces say.
"""

import importlib
import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from pplkit import handlers
from tests.models import backend

F64 = torch.float64


def engine(name):
    """The statements of an engine, and what else these programs use."""
    ppl = backend(name)
    ppl.infer = importlib.import_module(f"{name}.infer")
    ppl.Vindex = importlib.import_module(f"{name}.ops.indexing").Vindex
    return ppl


@dataclass
class Case:
    name: str
    build: object  # from an engine to a namespace with model, and guide if there is one
    nesting: int


CASES: list[Case] = []


def case(nesting):
    def added(build):
        CASES.append(Case(build.__name__, build, nesting))
        return build

    return added


def new(values):
    return torch.tensor(values, dtype=F64)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(*shape, seed=0):
    """Rows of probabilities."""
    return noise(*shape, seed=seed).softmax(-1)


ALL = {"enumerate": "parallel"}


def simplex(ppl, name, *shape, seed=0):
    return ppl.param(name, rows(*shape, seed=seed), constraint=ppl.dist.constraints.simplex)


def nothing(*args):
    pass


def parts(model, guide=nothing):
    return SimpleNamespace(model=model, guide=guide)


@case(0)
def one_coin(ppl):
    def model():
        p = ppl.param("p", new(0.3), constraint=ppl.dist.constraints.unit_interval)
        z = ppl.sample("z", ppl.dist.Bernoulli(p), infer=ALL)
        ppl.sample("x", ppl.dist.Normal(ppl.param("gap", new(2.0)) * z, 1.0), obs=new(1.2))

    return parts(model)


@case(1)
def mixture(ppl):
    def model():
        loc = ppl.param("loc", noise(3))
        weights = simplex(ppl, "weights", 3)
        with ppl.plate("data", 4):
            z = ppl.sample("z", ppl.dist.Categorical(weights), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[z], 0.7), obs=noise(4, seed=1))

    return parts(model)


@case(1)
def expanded_values(ppl):
    def model():
        loc = ppl.param("loc", noise(3))
        with ppl.plate("data", 3):
            marks = {"enumerate": "parallel", "expand": True}
            z = ppl.sample("z", ppl.dist.Categorical(rows(3, 3, seed=2)), infer=marks)
            w = ppl.sample("w", ppl.dist.Categorical(rows(3, 2, seed=3)[z]), infer=marks)
            ppl.sample("x", ppl.dist.Normal(loc[z] + w, 0.7), obs=noise(3, seed=1))

    return parts(model)


@case(1)
def one_regime_for_all_rows(ppl):
    def model():
        loc, probs = ppl.param("loc", noise(2)), simplex(ppl, "probs", 2)
        g = ppl.sample("g", ppl.dist.Categorical(probs), infer=ALL)
        with ppl.plate("data", 5):
            ppl.sample("x", ppl.dist.Normal(loc[g], 1.0), obs=noise(5, seed=1))

    return parts(model)


@case(1)
def regime_and_components(ppl):
    def model():
        loc, weights = ppl.param("loc", noise(2, 3)), simplex(ppl, "weights", 2, 3)
        g = ppl.sample("g", ppl.dist.Bernoulli(new(0.4)), infer=ALL).long()
        with ppl.plate("data", 3):
            z = ppl.sample("z", ppl.dist.Categorical(weights[g]), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[g, z], 1.0), obs=noise(3, seed=1))

    return parts(model)


@case(2)
def nested_plates(ppl):
    def model():
        loc, probs = ppl.param("loc", noise(2, 2, 2)), simplex(ppl, "probs", 2, 2)
        g = ppl.sample("g", ppl.dist.Categorical(rows(2, seed=4)), infer=ALL)
        with ppl.plate("groups", 2, dim=-2):
            z = ppl.sample("z", ppl.dist.Categorical(rows(2, 2, seed=5)[g]), infer=ALL)
            ppl.sample("y", ppl.dist.Normal(z * 1.0, 1.0), obs=noise(2, 1, seed=6))
            with ppl.plate("rows", 2, dim=-1):
                w = ppl.sample("w", ppl.dist.Categorical(probs[z]), infer=ALL)
                ppl.sample("x", ppl.dist.Normal(loc[g, z, w], 1.0), obs=noise(2, 2, seed=1))

    return parts(model)


@case(1)
def two_plates_side_by_side(ppl):
    def model():
        g = ppl.sample("g", ppl.dist.Categorical(simplex(ppl, "probs", 2)), infer=ALL)
        for k, size in enumerate((3, 2)):
            loc = ppl.param(f"loc_{k}", noise(2, 2, seed=k))
            with ppl.plate(f"data_{k}", size):
                z = ppl.sample(f"z_{k}", ppl.dist.Categorical(rows(2, 2, seed=k)[g]), infer=ALL)
                ppl.sample(f"x_{k}", ppl.dist.Normal(loc[g, z], 1.0), obs=noise(size, seed=k))

    return parts(model)


@case(2)
def crossing_plates_without_shared_sums(ppl):
    def model():
        with ppl.plate("users", 2, dim=-2):
            u = ppl.sample("u", ppl.dist.Categorical(simplex(ppl, "kinds", 2)), infer=ALL)
            with ppl.plate("items", 3, dim=-1):
                score = ppl.param("score", noise(2, 3))
                ppl.sample("x", ppl.dist.Normal(score[u, torch.arange(3)], 1.0), obs=noise(2, 3))

    return parts(model)


@case(2)
def topics(ppl):
    """Documents of a kind, whose words have topics (after latent Dirichlet allocation)."""

    def model():
        kind, topic = simplex(ppl, "kind", 2), simplex(ppl, "topic", 2, 2, seed=1)
        word = simplex(ppl, "word", 2, 4, seed=2)
        seen = torch.tensor([[0, 3], [1, 2]])
        with ppl.plate("documents", 2, dim=-1):
            c = ppl.sample("c", ppl.dist.Categorical(kind), infer=ALL)
            with ppl.plate("words", 2, dim=-2):
                z = ppl.sample("z", ppl.dist.Categorical(topic[c]), infer=ALL)
                ppl.sample("w", ppl.dist.Categorical(word[z]), obs=seen)

    return parts(model)


@case(0)
def explaining_away(ppl):
    def model():
        alarm = ppl.param("alarm", new([[-4.0, 0.5], [2.0, 2.5]]))
        b = ppl.sample("burglar", ppl.dist.Bernoulli(new(0.1)), infer=ALL).long()
        e = ppl.sample("earthquake", ppl.dist.Bernoulli(new(0.2)), infer=ALL).long()
        a = ppl.sample("alarm_rings", ppl.dist.Bernoulli(logits=alarm[b, e]), infer=ALL).long()
        for k, p in enumerate(([0.1, 0.8], [0.05, 0.6])):
            ppl.sample(f"call_{k}", ppl.dist.Bernoulli(new(p)[a]), obs=new(1.0))

    return parts(model)


@case(0)
def chain(ppl):
    """A hidden Markov model."""

    def model():
        move, loc = simplex(ppl, "move", 3, 3), ppl.param("loc", noise(3))
        z = torch.tensor(0)
        for t in ppl.markov(range(4)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(move[z]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z], 0.8), obs=noise(4, seed=1)[t])

    return parts(model)


@case(0)
def chain_without_markov(ppl):
    def model():
        move, loc = simplex(ppl, "move", 3, 3), ppl.param("loc", noise(3))
        z = torch.tensor(0)
        for t in range(4):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(move[z]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z], 0.8), obs=noise(5, seed=1)[t])

    return parts(model)


@case(0)
def chain_with_impossible_moves(ppl):
    """From left to right only: some probabilities are exactly 0."""

    def model():
        loc = ppl.param("loc", noise(3))
        stay = new([[0.6, 0.4, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]).log()
        z = torch.tensor(0)
        for t in ppl.markov(range(4)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(logits=stay[z]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z], 0.8), obs=noise(4, seed=1)[t])

    return parts(model)


@case(1)
def chains_in_a_plate(ppl):
    def model():
        move, loc = simplex(ppl, "move", 2, 2, 2), ppl.param("loc", noise(2))
        with ppl.plate("series", 2) as i:
            z = torch.zeros(2, dtype=torch.long)
            for t in ppl.markov(range(3)):
                probs = ppl.Vindex(move)[i, z]
                z = ppl.sample(f"z_{t}", ppl.dist.Categorical(probs), infer=ALL)
                ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z], 0.8), obs=noise(3, 2, seed=1)[t])

    return parts(model)


@case(1)
def chain_around_a_plate(ppl):
    def model():
        move, loc = simplex(ppl, "move", 2, 2), ppl.param("loc", noise(2, 2))
        z = torch.tensor(0)
        for t in ppl.markov(range(2)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(move[z]), infer=ALL)
            with ppl.plate(f"rows_{t}", 2):
                w = ppl.sample(f"w_{t}", ppl.dist.Categorical(rows(2, 2, seed=7)[z]), infer=ALL)
                ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z, w], 0.8), obs=noise(2, 2, seed=1)[t])

    return parts(model)


@case(0)
def two_chains_at_once(ppl):
    """A factorial hidden Markov model."""

    def model():
        one, two = simplex(ppl, "one", 2, 2), simplex(ppl, "two", 2, 2, seed=1)
        loc = ppl.param("loc", noise(2, 2))
        z, w = torch.tensor(0), torch.tensor(0)
        for t in ppl.markov(range(3)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(one[z]), infer=ALL)
            w = ppl.sample(f"w_{t}", ppl.dist.Categorical(two[w]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z, w], 0.8), obs=noise(3, seed=1)[t])

    return parts(model)


@case(0)
def chain_that_looks_two_steps_back(ppl):
    def model():
        move, loc = simplex(ppl, "move", 2, 2, 2), ppl.param("loc", noise(2))
        one = two = torch.tensor(0)
        for t in ppl.markov(range(5), history=2):
            two, one = one, ppl.sample(f"z_{t}", ppl.dist.Categorical(move[two, one]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[one], 0.8), obs=noise(5, seed=1)[t])

    return parts(model)


@case(0)
def chains_that_branch_from_a_chain(ppl):
    """Markov loops inside one."""

    def model():
        move, loc = simplex(ppl, "move", 2, 2), ppl.param("loc", noise(2))
        z = torch.tensor(0)
        for s in ppl.markov(range(2)):
            z = ppl.sample(f"z_{s}", ppl.dist.Categorical(move[z]), infer=ALL)
            w = z
            for t in ppl.markov(range(2)):
                w = ppl.sample(f"w_{s}_{t}", ppl.dist.Categorical(rows(2, 2)[w]), infer=ALL)
                at = noise(2, 2, seed=1)[s, t]
                ppl.sample(f"x_{s}_{t}", ppl.dist.Normal(loc[w], 0.8), obs=at)

    return parts(model)


@case(0)
def root_of_a_chain(ppl):
    """A variable before the loop that every step depends on."""

    def model():
        move, loc = simplex(ppl, "move", 2, 2, 2), ppl.param("loc", noise(2, 2))
        g = ppl.sample("g", ppl.dist.Categorical(rows(2, seed=3)), infer=ALL)
        z = torch.tensor(0)
        for t in ppl.markov(range(4)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(move[g, z]), infer=ALL)
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[g, z], 0.8), obs=noise(4, seed=1)[t])

    return parts(model)


@case(1)
def chain_of_variables_in_a_plate(ppl):
    def model():
        loc = ppl.param("loc", noise(2, 2))
        with ppl.plate("data", 2):
            a = ppl.sample("a", ppl.dist.Categorical(simplex(ppl, "first", 2)), infer=ALL)
            b = ppl.sample("b", ppl.dist.Categorical(rows(2, 3)[a]), infer=ALL)
            c = ppl.sample("c", ppl.dist.Categorical(rows(3, 2, seed=1)[b]), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[a, c], 1.0), obs=noise(2, seed=2))

    return parts(model)


@case(0)
def one_hot(ppl):
    def model():
        z = ppl.sample("z", ppl.dist.OneHotCategorical(simplex(ppl, "probs", 3)), infer=ALL)
        w = ppl.sample("w", ppl.dist.OneHotCategorical(logits=z @ noise(3, 2)), infer=ALL)
        loc = ppl.param("loc", noise(2))
        ppl.sample("x", ppl.dist.Normal((w * loc).sum(-1), 1.0), obs=new(0.3))

    return parts(model)


@case(1)
def hidden_counts(ppl):
    def model():
        p = ppl.param("p", new(0.4), constraint=ppl.dist.constraints.unit_interval)
        with ppl.plate("sites", 2):
            n = ppl.sample("n", ppl.dist.Binomial(3, p), infer=ALL)
            m = ppl.sample("m", ppl.dist.BetaBinomial(new(1.5), new(2.0), 1), infer=ALL)
            ppl.sample("x", ppl.dist.Poisson(0.5 + n + 2 * m), obs=new([3.0, 6.0]))

    return parts(model)


@case(0)
def loop_over_a_plate(ppl):
    def model():
        loc = ppl.param("loc", noise(2, 2))
        g = ppl.sample("g", ppl.dist.Categorical(simplex(ppl, "probs", 2)), infer=ALL)
        for i in ppl.plate("data", 3):
            z = ppl.sample(f"z_{i}", ppl.dist.Categorical(rows(2, 2)[g]), infer=ALL)
            ppl.sample(f"x_{i}", ppl.dist.Normal(loc[g, z], 1.0), obs=noise(3, seed=1)[i])

    return parts(model)


@case(0)
def ring_of_factors(ppl):
    """A Potts model on a ring: no order of the variables follows the arrows, there are none."""

    def model():
        tie = ppl.param("tie", noise(3, 3))
        z = [
            ppl.sample(f"z_{i}", ppl.dist.Categorical(torch.ones(3, dtype=F64)), infer=ALL)
            for i in range(4)
        ]
        for i in range(4):
            ppl.factor(f"f_{i}", tie[z[i], z[(i + 1) % 4]])

    return parts(model)


@case(0)
def observed_children(ppl):
    def model():
        table = simplex(ppl, "table", 2, 3)
        z = ppl.sample("z", ppl.dist.Bernoulli(new(0.3)), infer=ALL).long()
        ppl.sample("x", ppl.dist.Categorical(table[z]), obs=torch.tensor(2))
        ppl.sample("y", ppl.dist.Binomial(5, new([0.2, 0.7])[z]), obs=new(3.0))

    return parts(model)


@case(1)
def continuous_by_the_guide(ppl):
    """Scale and location are points of the guide, the component is summed out."""

    def model():
        loc = ppl.sample("loc", ppl.dist.Normal(torch.zeros(2, dtype=F64), 2.0).to_event(1))
        scale = ppl.sample("scale", ppl.dist.LogNormal(new(0.0), 1.0))
        with ppl.plate("data", 3):
            z = ppl.sample("z", ppl.dist.Categorical(rows(2)), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[z], scale), obs=noise(3, seed=1))

    def guide():
        ppl.sample("loc", ppl.dist.Delta(ppl.param("at", noise(2)), event_dim=1))
        ppl.sample("scale", ppl.dist.Delta(ppl.param("wide", new(0.8))))

    return parts(model, guide)


@case(1)
def all_in_the_guide(ppl):
    def model():
        loc = ppl.param("loc", noise(3))
        with ppl.plate("data", 2):
            z = ppl.sample("z", ppl.dist.Categorical(rows(3)))
            ppl.sample("x", ppl.dist.Normal(loc[z], 1.0), obs=noise(2, seed=1))

    def guide():
        with ppl.plate("data", 2):
            ppl.sample("z", ppl.dist.Categorical(simplex(ppl, "q", 2, 3, seed=2)), infer=ALL)

    return parts(model, guide)


@case(0)
def chain_in_the_guide(ppl):
    def model():
        move, loc = rows(2, 2), ppl.param("loc", noise(2))
        z = torch.tensor(0)
        for t in ppl.markov(range(4)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(move[z]))
            ppl.sample(f"x_{t}", ppl.dist.Normal(loc[z], 0.8), obs=noise(4, seed=1)[t])

    def guide():
        q, z = simplex(ppl, "q", 4, 2, 2, seed=2), torch.tensor(0)
        for t in ppl.markov(range(4)):
            z = ppl.sample(f"z_{t}", ppl.dist.Categorical(q[t, z]), infer=ALL)

    return parts(model, guide)


@case(1)
def chain_above_a_plate_in_the_guide(ppl):
    def model():
        loc = ppl.param("loc", noise(2, 2))
        a = ppl.sample("a", ppl.dist.Categorical(rows(2)))
        b = ppl.sample("b", ppl.dist.Categorical(rows(2, 2)[a]))
        with ppl.plate("data", 2):
            c = ppl.sample("c", ppl.dist.Categorical(rows(2, 2, seed=1)[b]))
            ppl.sample("x", ppl.dist.Normal(loc[b, c], 1.0), obs=noise(2, seed=1))

    def guide():
        q = simplex(ppl, "q", 3, 2, 2, seed=2)
        a = ppl.sample("a", ppl.dist.Categorical(q[0, 0]), infer=ALL)
        b = ppl.sample("b", ppl.dist.Categorical(q[1, a]), infer=ALL)
        with ppl.plate("data", 2):
            ppl.sample("c", ppl.dist.Categorical(q[2, b]), infer=ALL)

    return parts(model, guide)


@case(1)
def some_in_the_guide_the_rest_in_the_model(ppl):
    def model():
        loc, weights = ppl.param("loc", noise(2, 3)), simplex(ppl, "weights", 2, 3)
        g = ppl.sample("g", ppl.dist.Bernoulli(new(0.4))).long()
        with ppl.plate("data", 2):
            z = ppl.sample("z", ppl.dist.Categorical(weights[g]), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[g, z], 1.0), obs=noise(2, seed=1))

    def guide():
        ppl.sample("g", ppl.dist.Bernoulli(logits=ppl.param("q", new(0.7))), infer=ALL)

    return parts(model, guide)


@case(1)
def one_value_after_another(ppl):
    """A guide that is run once for each value."""

    def model():
        loc = ppl.param("loc", noise(2, 2))
        g = ppl.sample("g", ppl.dist.Bernoulli(new(0.4))).long()
        with ppl.plate("data", 2):
            z = ppl.sample("z", ppl.dist.Categorical(rows(2, 2)[g]))
            ppl.sample("x", ppl.dist.Normal(loc[g, z], 1.0), obs=noise(2, seed=1))

    def guide():
        turn = {"enumerate": "sequential"}
        g = ppl.sample("g", ppl.dist.Bernoulli(logits=ppl.param("q", new(0.7))), infer=turn)
        weights = simplex(ppl, "weights", 2, 2, seed=3)
        with ppl.plate("data", 2):
            ppl.sample("z", ppl.dist.Categorical(weights[g.long()]), infer=turn)

    return parts(model, guide)


@case(1)
def sequential_above_parallel(ppl):
    def model():
        loc = ppl.param("loc", noise(2, 2))
        g = ppl.sample("g", ppl.dist.Bernoulli(new(0.4))).long()
        with ppl.plate("data", 2):
            z = ppl.sample("z", ppl.dist.Categorical(rows(2, 2)[g]))
            w = ppl.sample("w", ppl.dist.Categorical(rows(2, 2, seed=6)[z]), infer=ALL)
            ppl.sample("x", ppl.dist.Normal(loc[g, z] + w, 1.0), obs=noise(2, seed=1))

    def guide():
        q, turn = ppl.param("q", new(0.7)), {"enumerate": "sequential"}
        g = ppl.sample("g", ppl.dist.Bernoulli(logits=q), infer=turn).long()
        weights = simplex(ppl, "weights", 2, 2, seed=3)
        with ppl.plate("data", 2):
            ppl.sample("z", ppl.dist.Categorical(weights[g]), infer=ALL)

    return parts(model, guide)


# -- all combinations, one by one ------------------------------------------------------------------


def combinations(model, *args, only=lambda site: True):
    """Every combination of values of the latent discrete sites, as dictionaries."""
    run = handlers.trace(model).get_trace(*args)
    names, choices = [], []
    for site in run.sites("sample"):
        if site.is_observed or not site.fn.has_enumerate_support or not only(site):
            continue
        support = site.fn.enumerate_support(expand=False)
        support = support.reshape(support.shape[:1] + site.fn.event_shape)
        shape = site.fn.batch_shape
        index = itertools.product(range(len(support)), repeat=math.prod(shape))
        names.append(site.name)
        choices.append([support[torch.tensor(i).long()].reshape(site.fn.shape()) for i in index])
    for values in itertools.product(*choices):
        yield dict(zip(names, values, strict=True))


def log_joint(model, values):
    return handlers.trace(handlers.condition(model, data=values)).get_trace().log_prob_sum()


def brute_force(program):
    """The ELBO: an expectation over all that the guide samples, of the log of a sum over the rest.

    Draws of a guide that are no choice (points) are what they are.
    """
    total = 0.0
    for guessed in combinations(program.guide):
        guide = handlers.trace(handlers.condition(program.guide, data=guessed)).get_trace()
        log_q = guide.log_prob_sum()
        fixed = {s.name: s.value for s in guide.sites("sample")}
        model = handlers.condition(program.model, data=fixed)
        terms = torch.stack([log_joint(model, values) for values in combinations(model)])
        total = total + log_q.exp() * (terms.logsumexp(0) - log_q)
    return total
