"""Exercises of chapter 9: how do data become a decision?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import pplkit.distributions as dist

from ..judging import (
    Answer,
    Mistake,
    as_number,
    described,
    exercise,
    listed,
    plate_size_mistake,
    quoted,
    same_scores,
    sample_sites,
)

# Disasters in British coal mines by year, from 1851 (book/data/coal-mining.csv).
COAL = (
    "4541043406334026335453144155342522342132211113001011003103220111010100021"
    "000110233112111123300014000100000100101"
)


def _nothing(exercise: str, returned, remedy: str) -> None:
    if returned is None or returned is ...:
        raise Mistake(f"`{exercise}` returned nothing.", remedy, "empty")


def _vector(exercise: str, returned, size: int, thing: str) -> Tensor:
    remedy = f"Return a tensor with one number for each {thing}."
    _nothing(exercise, returned, remedy)
    try:
        found = torch.as_tensor(returned).detach().double()
    except Exception:  # noqa: BLE001
        found = None
    if found is None or found.shape != (size,):
        shape = f" of shape {tuple(found.shape)}" if found is not None else ""
        raise Mistake(
            f"`{exercise}` returned {described(returned)}{shape}, and {size} numbers are asked "
            "for.",
            remedy,
            "shape",
        )
    return found


# -- which is the best -----------------------------------------------------------------------------


@exercise("chances", "draws")
def _chances(answer: Answer) -> str:
    """The probability of each option to be the best, from draws (draws, options)."""
    generator = torch.Generator().manual_seed(4)
    for options, n in ((3, 500), (5, 800)):
        centre = torch.linspace(0.0, 1.0, options)
        width = torch.linspace(3.0, 0.5, options)
        draws = centre + width * torch.randn(n, options, generator=generator)
        found = _vector("chances", answer(draws), options, "option")
        truth = torch.bincount(draws.argmax(-1), minlength=options).double() / n
        if torch.allclose(found, truth, atol=1e-6):
            continue
        middle = draws.mean(0)
        worst = torch.bincount(draws.argmin(-1), minlength=options).double() / n
        known = [
            (truth * n, "counts", "those are counts of draws", "Divide by how many there are."),
            (
                (middle == middle.max()).double(),
                "best-mean",
                "all belief went to the option with the highest mean: how sure that is was lost",
                "Ask in *each* draw which option is the best.",
            ),
            (middle.double(), "means", "those are the means", "Which is the best, in each draw?"),
            (
                middle.softmax(-1).double(),
                "softmax",
                "a softmax of the means is no probability of being the best",
                "Count draws.",
            ),
            (worst, "worst", "those are the probabilities of being the worst", "argmax."),
            (
                (draws > middle.mean()).double().mean(0),
                "above-average",
                "those are the probabilities of being above the average",
                "In each draw one option is the best: the numbers must sum to 1.",
            ),
        ]
        for wrong, mistake, told, remedy in known:
            if torch.allclose(found, wrong, atol=1e-5):
                raise Mistake(f"{told}.", remedy, mistake)
        raise Mistake(
            f"the probabilities are {[round(v, 2) for v in truth.tolist()]}, and `chances` gave "
            f"{[round(v, 2) for v in found.tolist()]}.",
            "`draws.argmax(-1)` is the best option of each draw.",
            "wrong-value",
        )
    return "the share of draws in which each is the best, and they sum to 1."


# -- a change-point --------------------------------------------------------------------------------


@exercise("change", "counts")
def _change(answer: Answer) -> str:
    """Rates before and after, and a year that is marked for enumeration."""
    for n in (6, 9):
        counts = (torch.arange(n) * 7 % 5).float()
        run, _ = _change_run(answer, counts, {})
        sites = sample_sites(run)
        if not sites:
            raise Mistake("no `sample` statement was run.", "Four are needed.", "empty")
        missing = [name for name in ("before", "after", "year", "count") if name not in sites]
        if missing:
            raise Mistake(
                f"there is no site called {listed(missing)}; the run has {listed(sites)}.",
                "Names are how others find a draw: letter for letter.",
                "site-name",
            )
        _change_sites(sites, counts)
        _change_rates(answer, counts)
    return "three unknowns, of which the year can be summed out."


def _change_run(answer: Answer, counts: Tensor, hold: dict):
    try:
        return answer.traced(counts, rng_seed=1, hold=hold)
    except Mistake as found:
        if found.error is not None and "ambiguous" in quoted(found.error):
            raise Mistake(
                "`if` wants one answer, and there is one for each year.",
                "`torch.where(torch.arange(n) < year, before, after)` chooses row by row.",
                "if-on-a-batch",
            ) from None
        raise plate_size_mistake(found, found.error, len(counts), "count") from None


def _change_sites(sites: dict, counts: Tensor) -> None:
    n = len(counts)
    for name in ("before", "after", "year"):
        if sites[name].plates:
            raise Mistake(
                f"`{name}` stands in the plate: there is one for each year.",
                "It is shared by all years: draw it before the plate.",
                "latent-in-plate",
            )
    for name in ("before", "after"):
        if not same_scores(sites[name].fn, dist.Gamma(2.0, 1.0), torch.tensor([0.3, 1.0, 4.0])):
            raise Mistake(f"the prior of `{name}` is not `Gamma(2, 1)`.", "", "prior")
    count, year = sites["count"], sites["year"]
    if not count.is_observed or not torch.equal(count.value, counts):
        raise Mistake("`count` is not observed at `counts`.", "Give it `obs=counts`.", "no-obs")
    if [frame.size for frame in count.plates] != [n]:
        raise Mistake("`count` stands in no plate of years.", "Put it in a plate.", "no-plate")
    values = year.fn.enumerate_support().flatten() if year.fn.has_enumerate_support else None
    if values is None or sorted(values.tolist()) != list(range(n)):
        raise Mistake(
            f"`year` cannot take the values 0 to {n - 1}, each once.",
            "`dist.Categorical(torch.ones(len(counts)))`: all years alike.",
            "year",
        )
    scores = year.fn.log_prob(values)
    if not torch.allclose(scores, scores[:1].expand(n)):
        raise Mistake("the years are not equally probable.", "Equal weights.", "year")
    if year.infer.get("enumerate") != "parallel":
        raise Mistake(
            "`year` is not marked: inference would look for its gradient, and there is none.",
            'Give the statement `infer={"enumerate": "parallel"}`.',
            "not-marked",
        )


def _change_rates(answer: Answer, counts: Tensor) -> None:
    """The count's distribution at every year, one by one and all at once."""
    n, before, after = len(counts), torch.tensor(3.0), torch.tensor(0.5)
    rates = {"before": before, "after": after}
    index = torch.arange(n)
    for at in (2, n - 1):
        run, _ = _change_run(answer, counts, {**rates, "year": torch.tensor(at)})
        found = run.nodes["count"].log_prob.expand(n)

        def of(early, one=before, other=after):
            return dist.Poisson(torch.where(early, one, other)).log_prob(counts)

        if torch.allclose(found, of(index < at), atol=1e-4):
            continue
        if torch.allclose(found, of(index <= at), atol=1e-4):
            raise Mistake(
                "the year itself still has the old rate.",
                "`year` is the *first* year of the new rate: `<`, not `<=`.",
                "off-by-one",
            )
        if torch.allclose(found, of(index < at, after, before), atol=1e-4):
            raise Mistake("the two rates are exchanged.", "Before the year, `before`.", "swapped")
        raise Mistake(
            "given year and rates, the counts are not Poisson with the rate of their year.",
            "`torch.where(torch.arange(n) < year, before, after)`.",
            "rates",
        )
    try:
        run, _ = answer.traced(
            counts, rng_seed=1, hold={**rates, "year": torch.arange(n).reshape(n, 1)}
        )
    except Mistake:
        run = None
    if run is None or run.nodes["count"].log_prob.shape != (n, n):
        raise Mistake(
            "with one year the model works, and with all years at once it does not: enumeration "
            "gives `year` a dimension of its own, on the left.",
            "No `int(year)`, no slice `[:year]`, no `if`: `torch.where` alone.",
            "one-year-only",
        )


# -- summing out by hand ---------------------------------------------------------------------------


@exercise("marginal", "before", "after", "counts")
def _marginal(answer: Answer) -> str:
    """log p(counts | rates), the year summed out; also where probabilities underflow."""
    for n in (5, 12, 400):
        counts = torch.poisson(
            torch.where(torch.arange(n) < n // 2, 3.0, 1.0),
            generator=torch.Generator().manual_seed(n),
        )
        before, after = torch.tensor(2.5), torch.tensor(1.2)
        returned = answer(before, after, counts)
        _nothing("marginal", returned, "Return a log-probability.")
        found = as_number(returned)
        if found is None:
            size = isinstance(returned, Tensor) and returned.numel() == n
            raise Mistake(
                "a number for each year was returned: they are not summed out."
                if size
                else f"`marginal` returned {described(returned)}, and one number is asked for.",
                "`torch.logsumexp` over the years." if size else "Return a log-probability.",
                "not-summed" if size else "not-a-number",
            )
        _judged_marginal(found, before, after, counts)
    return "the alternatives' probabilities added up, on a scale on which nothing underflows."


def _judged_marginal(found: float, before: Tensor, after: Tensor, counts: Tensor) -> None:
    n = len(counts)
    index = torch.arange(n)
    prior = torch.tensor(float(n)).log()

    def joint(early):
        return dist.Poisson(torch.where(early, before, after)).log_prob(counts).double().sum(-1)

    rows = joint(index < index.reshape(n, 1))
    right = (rows.logsumexp(0) - prior).item()
    close = lambda value: abs(found - value) < 1e-4 * max(1.0, abs(value))
    if close(right):
        return
    if found in (float("-inf"), float("inf")) or math.isnan(found):
        raise Mistake(
            f"with {n} counts the answer is {found}: their probability is too small for a number.",
            "Stay with logarithms: `torch.logsumexp` instead of exponential, sum and logarithm.",
            "underflow",
        )
    known = [
        (rows.logsumexp(0), "no-prior", "each year must be weighed by its probability, 1/n"),
        (rows.max(), "best-year", "that is the most probable year alone, not all of them"),
        (rows.max() - prior, "best-year", "that is the most probable year alone, not all of them"),
        (rows.mean(), "mean-of-logs", "logarithms were averaged; it is probabilities that add up"),
        (rows.sum() - n * prior, "product", "years were multiplied, as if all were true together"),
        (rows.sum(), "product", "years were multiplied, as if all were true together"),
        (
            joint(index <= index.reshape(n, 1)).logsumexp(0) - prior,
            "off-by-one",
            "the year itself still has the old rate",
        ),
        (
            joint(index >= index.reshape(n, 1)).logsumexp(0) - prior,
            "swapped",
            "the two rates are exchanged",
        ),
        (-right, "sign", "the sign is turned"),
    ]
    for value, mistake, told in known:
        if close(float(value)):
            raise Mistake(f"{told}.", "The average over years of p(counts | year).", mistake)
    raise Mistake(
        f"`marginal` gave {found:.3f} for {n} counts, and it should be {right:.3f}.",
        "A row of rates for each year, the sum of each row, then `logsumexp` and log(1/n).",
        "wrong-value",
    )


# -- when it could have been known -----------------------------------------------------------------


def _known(last: int) -> float:
    """The probability that the rate has changed, at the end of the year `last`."""
    counts = torch.tensor([float(c) for c in COAL])
    seen = (torch.arange(1851, 1963) <= last).double()
    y = counts * seen

    def evidence(total, n):
        return torch.lgamma(2 + total) - (2 + total) * torch.log(1 + n)

    total, n = y.cumsum(0) - y, seen.cumsum(0) - seen
    weight = evidence(total, n) + evidence(y.sum() - total, seen.sum() - n)
    return float(weight.softmax(0) @ seen)


@exercise("known_in", "probability")
def _known_in(answer: Answer) -> str:
    """The first `last` at which the change is more probable than this."""
    for wanted in (0.5, 0.95):
        returned = answer(wanted)
        _nothing("known_in", returned, "Return a year for each of the two probabilities.")
        year = as_number(returned)
        if year is None or isinstance(returned, bool):
            raise Mistake(
                f"`known_in({wanted})` returned {described(returned)}.",
                "Return a year.",
                "not-a-year",
            )
        if 0 <= year <= 111:
            raise Mistake(f"{year:g} is an index.", "Return the year itself.", "index")
        if not 1860 <= year <= 1962:
            raise Mistake(f"{year:g} is not on the slider.", "From 1860 to 1962.", "not-a-year")
        right = next(last for last in range(1860, 1963) if _known(last) > wanted)
        if abs(year - right) < 0.5:
            continue
        if wanted > 0.9 and year == 1962:
            raise Mistake(
                "by 1962 it was known for long: the *first* year is asked for.", "", "last"
            )
        if 1885 <= year <= 1892:
            raise Mistake(
                f"{year:.0f} is about when the rate *changed*. Then nobody could know it: the "
                f"probability of a change was {_known(int(year)):.2f}.",
                "Read the caption, not the tallest bar.",
                "when-it-changed",
            )
        raise Mistake(
            f"at the end of {year:.0f} the probability of a change is {_known(int(year)):.2f}; "
            f"the first year with more than {wanted:g} is asked for.",
            "One year on or back, until the caption passes the number.",
            "too-early" if year < right else "too-late",
        )
    return "some years after the change, for rare events speak slowly."


# -- a decision ------------------------------------------------------------------------------------


@exercise("teams", "counts", "price", "penalty")
def _teams(answer: Answer) -> str:
    """The number of teams with the least expected cost, from draws of the count."""
    generator = torch.Generator().manual_seed(9)
    # In the first, most years are quiet: mean, median and best choice are all different.
    for rate, quiet, price, penalty in (
        (4.0, 0.65, 1.0, 6.0),
        (2.5, 0.0, 1.0, 60.0),
        (2.5, 0.0, 3.0, 4.0),
        (6.0, 0.0, 1.0, 15.0),
        (1.5, 0.0, 5.0, 4.0),
    ):
        counts = torch.poisson(torch.full((2000,), rate), generator=generator)
        counts = torch.where(torch.arange(2000) < 2000 * quiet, 0.0, counts)
        returned = answer(counts, price, penalty)
        _nothing("teams", returned, "Return a whole number of teams.")
        found = as_number(returned)
        if found is None:
            raise Mistake(
                f"`teams` returned {described(returned)}, and one number is asked for.",
                "Return the number of teams with the least expected cost.",
                "not-a-number",
            )
        costs = [_cost(counts, k, price, penalty) for k in range(int(counts.max()) + 2)]
        best = min(range(len(costs)), key=costs.__getitem__)
        if found != round(found):
            raise Mistake(
                f"{found:.2f} teams cannot be kept.", "A whole number, from 0 on.", "not-whole"
            )
        if found < 0:
            raise Mistake(f"{found:.0f} teams cannot be kept.", "From 0 on.", "not-whole")
        if found == best:
            continue
        mistake, told = _named(counts, price, penalty, found, costs)
        cost = _cost(counts, found, price, penalty)
        raise Mistake(
            f"with price {price:g} and penalty {penalty:g}, {found:.0f} teams cost {cost:.2f} on "
            f"average, and {best} cost {costs[best]:.2f}.{told}",
            "Average the cost of each number of teams over the draws, and take the least.",
            mistake,
        )
    return "the least expected cost, whatever price and penalty."


def _cost(counts: Tensor, teams: float, price: float, penalty: float) -> float:
    return price * teams + penalty * (counts - teams).clamp(min=0).mean().item()


def _named(counts, price, penalty, found, costs) -> tuple[str, str]:
    of_mean = [price * k + penalty * max(0.0, counts.mean().item() - k) for k in range(len(costs))]
    backwards = torch.quantile(counts, min(1.0, price / penalty)).item()
    if found == min(range(len(costs)), key=of_mean.__getitem__):
        return "cost-of-mean", " That is best if the count is certain to be its mean."
    if found in (round(counts.mean().item()), int(counts.mean().item())):
        return "mean", " That is the expected count, and no cost came into it."
    if found == counts.max().item():
        return "worst-case", " That is safe against everything, at any price."
    if found == counts.median().item():
        return "median", " That is the median, which is right if both errors cost the same."
    if found == torch.quantile(counts, 0.95).item():
        return "95-percent", " 95 % is a habit; price and penalty say how sure to be."
    if found == backwards:
        return "backwards", " Price and penalty are exchanged."
    return "wrong-value", ""


# -- computed effects ------------------------------------------------------------------------------


@exercise("computed_effects", "gain", "error")
def _computed_effects(answer: Answer) -> str:
    """Schools with z drawn and theta = mu + tau z computed."""
    for n in (8, 5):
        gain, error = 3.0 * torch.arange(n).float(), 9.0 + torch.arange(n).float()
        hold = {
            "mu": torch.tensor(4.0),
            "tau": torch.tensor(3.0),
            "z": torch.linspace(-1.0, 1.5, n),
        }
        try:
            run, _ = answer.traced(gain, error, rng_seed=1)
        except Mistake as found:
            raise plate_size_mistake(found, found.error, n, "school") from None
        sites = sample_sites(run)
        if not sites:
            raise Mistake("no `sample` statement was run.", "Four are needed.", "empty")
        if "theta" in sites and not sites["theta"].is_observed:
            raise Mistake(
                "`theta` is still drawn: the neck is still there.",
                'Draw `z`, and compute: `deterministic("theta", mu + tau * z)`.',
                "still-drawn",
            )
        missing = [name for name in ("mu", "tau", "z", "gain") if name not in sites]
        if missing:
            raise Mistake(
                f"there is no site called {listed(missing)}; the run has {listed(sites)}.",
                "Names are how others find a draw: letter for letter.",
                "site-name",
            )
        _effect_sites(sites, gain)
        run, _ = answer.traced(gain, error, rng_seed=2, hold=hold)
        _effect_values(run, gain, error, hold)
    return "the same model, in variables that know nothing of each other."


def _effect_sites(sites: dict, gain: Tensor) -> None:
    n = len(gain)
    at = torch.tensor([0.5, 2.0, 7.0])
    for name, fn in (("mu", dist.Normal(0.0, 10.0)), ("tau", dist.HalfNormal(10.0))):
        if sites[name].plates:
            raise Mistake(
                f"there is a `{name}` for each school.", "Draw it outside the plate.", "in-plate"
            )
        if not same_scores(sites[name].fn, fn, at):
            raise Mistake(f"the prior of `{name}` is not the one asked for.", "", "prior")
    z = sites["z"]
    if [frame.size for frame in z.plates] != [n]:
        raise Mistake(
            "there is one `z` for all schools." if z.value.numel() == 1 else "`z` has no plate.",
            "Each school has its own: draw it in the plate.",
            "no-plate",
        )
    if not same_scores(z.fn, dist.Normal(0.0, 1.0).expand([n]), at):
        raise Mistake(
            "`z` is not standard normal.",
            "It knows nothing of `mu` and `tau`: `dist.Normal(0.0, 1.0)`.",
            "z",
        )
    if not sites["gain"].is_observed or not torch.equal(sites["gain"].value, gain):
        raise Mistake("`gain` is not observed at `gain`.", "Give it `obs=gain`.", "no-obs")
    if [frame.size for frame in sites["gain"].plates] != [n]:
        raise Mistake("`gain` stands in no plate of schools.", "Put it in the plate.", "no-plate")


def _effect_values(run, gain: Tensor, error: Tensor, hold: dict) -> None:
    mu, tau, z = (hold[name] for name in ("mu", "tau", "z"))
    theta = mu + tau * z
    site = run.nodes.get("theta")
    if site is None:
        raise Mistake(
            "nothing is recorded under the name `theta`.",
            '`theta = deterministic("theta", ...)` keeps it in the trace.',
            "no-theta",
        )
    value = torch.as_tensor(site.value)
    if value.shape != theta.shape or not torch.allclose(value, theta, atol=1e-4):
        known = [
            (tau * z, "no-centre", "`mu` is missing"),
            (mu + z, "no-tau", "`tau` is missing"),
            (mu + tau**2 * z, "squared", "`tau` is a standard deviation, not a variance"),
            (mu + z / tau, "divided", "`z` is divided by `tau`"),
            (mu + tau.sqrt() * z, "root", "`tau` is a standard deviation already"),
        ]
        for wrong, mistake, told in known:
            if value.shape == wrong.shape and torch.allclose(value, wrong, atol=1e-4):
                raise Mistake(f"in `theta`, {told}.", "`mu + tau * z`.", mistake)
        raise Mistake("`theta` is not `mu + tau * z`.", "", "theta")
    if not torch.allclose(
        run.nodes["gain"].log_prob, dist.Normal(theta, error).log_prob(gain), atol=1e-4
    ):
        raise Mistake(
            "`gain` is not normal around `theta` with its own school's standard error.",
            "`dist.Normal(theta, error)`.",
            "likelihood",
        )
