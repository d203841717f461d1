"""The exercises of the chapter on an analysis: right answers, and the usual mistakes."""

import csv
import math
from pathlib import Path

import nbformat
import pytest
import torch
from pplwidgets.checks import check
from pplwidgets.judges.analysis import COAL

import pplkit.distributions as dist
from pplkit import deterministic, plate, sample

BOOK = Path(__file__).parents[2] / "book"


def chances(draws):
    return torch.bincount(draws.argmax(-1), minlength=draws.shape[-1]) / len(draws)


def chances_one_by_one(draws):
    return [(draws.max(-1).values == column).float().mean().item() for column in draws.T]


def of_best_mean(draws):
    return (draws.mean(0) == draws.mean(0).max()).float()


def change(counts, early=lambda i, year: i < year, mark=True, **other):
    n = len(counts)
    before = sample("before", dist.Gamma(*other.get("prior", (2.0, 1.0))))
    after = sample("after", dist.Gamma(2.0, 1.0))
    if other.get("swapped"):
        before, after = after, before
    which = dist.Categorical(torch.ones(other.get("values", n)))
    year = sample("year", which, infer={"enumerate": "parallel"} if mark else {})
    with plate("years", n):
        rate = torch.where(early(torch.arange(n), year), before, after)
        sample("count", dist.Poisson(rate), obs=other.get("data", counts))


def change_by_weights(counts):
    n = counts.numel()
    rates = [sample(name, dist.Gamma(2.0, 1.0)) for name in ("before", "after")]
    which = dist.Categorical(logits=torch.zeros(n))
    year = sample("year", which, infer={"enumerate": "parallel"})
    late = (torch.arange(n) >= year).float()
    with plate("all", n, dim=-1):
        sample("count", dist.Poisson(rates[0] * (1 - late) + rates[1] * late), obs=counts)


def change_by_slices(counts):
    before, after = (sample(name, dist.Gamma(2.0, 1.0)) for name in ("before", "after"))
    which = dist.Categorical(torch.ones(len(counts)))
    year = int(sample("year", which, infer={"enumerate": "parallel"}))
    rate = torch.cat([before.expand(year), after.expand(len(counts) - year)])
    with plate("years", len(counts)):
        sample("count", dist.Poisson(rate), obs=counts)


def change_in_the_plate(counts):
    with plate("years", len(counts)):
        before, after = (sample(name, dist.Gamma(2.0, 1.0)) for name in ("before", "after"))
        year = sample("year", dist.Categorical(torch.ones(len(counts))))
        rate = torch.where(torch.arange(len(counts)) < year, before, after)
        sample("count", dist.Poisson(rate), obs=counts)


def rows(before, after, counts, early=lambda i, k: i < k):
    index = torch.arange(len(counts))
    rates = torch.where(early(index, index[:, None]), before, after)
    return dist.Poisson(rates).log_prob(counts).sum(-1)


def marginal(before, after, counts):
    return rows(before, after, counts).logsumexp(0) - math.log(len(counts))


def marginal_in_a_loop(before, after, counts):
    n, total = len(counts), torch.tensor(-math.inf)
    for k in range(n):
        first = dist.Poisson(before).log_prob(counts[:k]).sum()
        total = torch.logaddexp(total, first + dist.Poisson(after).log_prob(counts[k:]).sum())
    return total - math.log(n)


def known_in(probability, half=1894, sure=1899):
    return half if probability < 0.9 else sure


def cost(counts, k, price, penalty):
    return price * k + penalty * (counts - k).clamp(min=0).mean().item()


def teams(counts, price, penalty):
    return min(range(int(counts.max()) + 1), key=lambda k: cost(counts, k, price, penalty))


def teams_by_quantile(counts, price, penalty):
    k = 0
    while penalty * (counts > k).double().mean() > price:
        k += 1
    return torch.tensor(k)


def teams_of_mean(counts, price, penalty):
    mean = counts.mean()
    return min(range(20), key=lambda k: price * k + penalty * max(0.0, mean.item() - k))


def effects(gain, error, value=lambda mu, tau, z: mu + tau * z, record=True, **other):
    mu = sample("mu", dist.Normal(0.0, 10.0))
    tau = sample("tau", dist.HalfNormal(other.get("scale", 10.0)))
    with plate("schools", len(gain)):
        z = sample("z", dist.Normal(0.0, other.get("spread", 1.0)))
        theta = value(mu, tau, z)
        if record:
            theta = deterministic("theta", theta)
        noise = other.get("noise", error)
        sample("gain", dist.Normal(theta, noise), obs=gain + other.get("moved", 0.0))


def effects_drawn(gain, error):
    mu, tau = sample("mu", dist.Normal(0.0, 10.0)), sample("tau", dist.HalfNormal(10.0))
    with plate("schools", len(gain)):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("gain", dist.Normal(theta, error), obs=gain)


def effects_of_one(gain, error):
    mu, tau = sample("mu", dist.Normal(0.0, 10.0)), sample("tau", dist.HalfNormal(10.0))
    theta = deterministic("theta", mu + tau * sample("z", dist.Normal(0.0, 1.0)))
    with plate("schools", len(gain)):
        sample("gain", dist.Normal(theta, error), obs=gain)


RIGHT = [
    ("chances", chances),
    ("chances", chances_one_by_one),
    ("change", change),
    ("change", change_by_weights),
    ("marginal", marginal),
    ("marginal", marginal_in_a_loop),
    ("known_in", known_in),
    ("teams", teams),
    ("teams", teams_by_quantile),
    ("computed_effects", effects),
    ("computed_effects", lambda g, e: effects(g, e, lambda m, t, z: z * t + m)),
]
WRONG = [
    ("chances", "best-mean", of_best_mean, "how sure"),
    ("chances", "counts", lambda d: chances(d) * len(d), "Divide"),
    ("chances", "means", lambda d: d.mean(0), "means"),
    ("chances", "softmax", lambda d: d.mean(0).softmax(-1), "softmax"),
    ("chances", "worst", lambda d: chances(-d), "worst"),
    ("chances", "above-average", lambda d: (d > d.mean()).float().mean(0), "above the average"),
    ("chances", "wrong-value", lambda d: torch.full((d.shape[-1],), 1 / d.shape[-1]), "argmax"),
    ("chances", "shape", lambda d: d.argmax(-1), "shape"),
    ("chances", "empty", lambda d: None, "nothing"),
    ("change", "off-by-one", lambda c: change(c, lambda i, y: i <= y), "*first*"),
    ("change", "swapped", lambda c: change(c, swapped=True), "exchanged"),
    ("change", "rates", lambda c: change(c, lambda i, y: i < y - 1), "rate of their year"),
    ("change", "not-marked", lambda c: change(c, mark=False), "not marked"),
    ("change", "year", lambda c: change(c, values=len(c) + 1), "each once"),
    ("change", "prior", lambda c: change(c, prior=(1.0, 1.0)), "Gamma(2, 1)"),
    ("change", "no-obs", lambda c: change(c, data=c + 1), "obs=counts"),
    ("change", "one-year-only", change_by_slices, "all years at once"),
    ("change", "latent-in-plate", change_in_the_plate, "one for each year"),
    ("change", "empty", lambda c: None, "no `sample` statement"),
    ("marginal", "not-summed", rows, "not summed out"),
    ("marginal", "no-prior", lambda b, a, c: rows(b, a, c).logsumexp(0), "1/n"),
    ("marginal", "best-year", lambda b, a, c: rows(b, a, c).max(), "alone"),
    ("marginal", "mean-of-logs", lambda b, a, c: rows(b, a, c).mean(), "averaged"),
    ("marginal", "product", lambda b, a, c: rows(b, a, c).sum(), "multiplied"),
    ("marginal", "underflow", lambda b, a, c: rows(b, a, c).exp().mean().log(), "too small"),
    (
        "marginal",
        "off-by-one",
        lambda b, a, c: rows(b, a, c, lambda i, k: i <= k).logsumexp(0) - math.log(len(c)),
        "old rate",
    ),
    ("marginal", "swapped", lambda b, a, c: marginal(a, b, c), "exchanged"),
    ("marginal", "sign", lambda b, a, c: -marginal(b, a, c), "sign"),
    ("marginal", "wrong-value", lambda b, a, c: marginal(b, a, c) + 1, "should be"),
    ("marginal", "empty", lambda b, a, c: None, "nothing"),
    ("known_in", "when-it-changed", lambda p: known_in(p, half=1890), "nobody could know"),
    ("known_in", "too-early", lambda p: known_in(p, sure=1898), "first year"),
    ("known_in", "too-late", lambda p: known_in(p, half=1896), "first year"),
    ("known_in", "last", lambda p: known_in(p, sure=1962), "*first*"),
    ("known_in", "index", lambda p: known_in(p) - 1851, "index"),
    ("known_in", "not-a-year", lambda p: 2024, "slider"),
    ("known_in", "empty", lambda p: None, "nothing"),
    ("teams", "cost-of-mean", teams_of_mean, "certain"),
    ("teams", "mean", lambda c, p, q: round(c.mean().item()), "expected count"),
    ("teams", "backwards", lambda c, p, q: 0 if q == 60 else teams(c, p, q), "exchanged"),
    ("teams", "worst-case", lambda c, p, q: c.max(), "any price"),
    ("teams", "95-percent", lambda c, p, q: torch.quantile(c, 0.95), "habit"),
    ("teams", "median", lambda c, p, q: c.median(), "median"),
    ("teams", "not-whole", lambda c, p, q: c.mean() + 0.01, "whole"),
    ("teams", "wrong-value", lambda c, p, q: 30, "cost"),
    ("teams", "empty", lambda c, p, q: None, "nothing"),
    ("computed_effects", "still-drawn", effects_drawn, "still drawn"),
    ("computed_effects", "no-theta", lambda g, e: effects(g, e, record=False), "recorded"),
    ("computed_effects", "no-centre", lambda g, e: effects(g, e, lambda m, t, z: t * z), "`mu`"),
    ("computed_effects", "no-tau", lambda g, e: effects(g, e, lambda m, t, z: m + z), "`tau`"),
    (
        "computed_effects",
        "squared",
        lambda g, e: effects(g, e, lambda m, t, z: m + t**2 * z),
        "variance",
    ),
    (
        "computed_effects",
        "root",
        lambda g, e: effects(g, e, lambda m, t, z: m + t**0.5 * z),
        "already",
    ),
    ("computed_effects", "divided", lambda g, e: effects(g, e, lambda m, t, z: m + z / t), "div"),
    ("computed_effects", "z", lambda g, e: effects(g, e, spread=2.0), "standard normal"),
    ("computed_effects", "prior", lambda g, e: effects(g, e, scale=5.0), "`tau`"),
    ("computed_effects", "likelihood", lambda g, e: effects(g, e, noise=1.0), "standard error"),
    ("computed_effects", "no-obs", lambda g, e: effects(g, e, moved=1.0), "obs=gain"),
    ("computed_effects", "no-plate", effects_of_one, "one `z`"),
    ("computed_effects", "empty", lambda g, e: None, "no `sample` statement"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_an_analysis_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_an_analysis_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)


def test_the_disasters_are_the_same_wherever_they_stand():
    """In the file, with the judge, and in the exercise's notebook, which is handed out alone."""
    text = (BOOK / "data" / "coal-mining.csv").read_text(encoding="utf-8")
    table = list(csv.DictReader(row for row in text.splitlines() if not row.startswith("#")))
    assert [int(row["year"]) for row in table] == list(range(1851, 1963))
    assert "".join(row["disasters"] for row in table) == COAL
    assert sum(map(int, COAL)) == 191
    notebook = nbformat.read(BOOK / "exercises" / "09-analysis.ipynb", as_version=4)
    written = "".join(c for c in notebook.cells[1].source if c.isdigit())
    assert COAL in written


@pytest.mark.parametrize("path", sorted((BOOK / "data").glob("*.csv")), ids=lambda path: path.stem)
def test_shipped_data_name_their_source_and_licence(path):
    head = [row for row in path.read_text(encoding="utf-8").splitlines() if row.startswith("#")]
    assert any(row.startswith("# Source: ") for row in head)
    assert any(row.startswith("# Licence: ") for row in head)
