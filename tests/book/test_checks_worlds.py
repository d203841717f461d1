"""The exercises of the chapter on handlers: right answers, and the usual mistakes."""

import pytest
import torch
from pplwidgets.checks import check

import pplkit.distributions as dist
from pplkit import plate, sample
from pplkit.handlers import Handler, mask, replay, seed, substitute, trace, uncondition


def elbo(model, guide):
    proposed = trace(guide).get_trace()
    scored = trace(replay(model, trace=proposed)).get_trace()
    return scored.log_prob_sum() - proposed.log_prob_sum()


def elbo_of_two_draws(model, guide):
    return trace(model).get_trace().log_prob_sum() - trace(guide).get_trace().log_prob_sum()


def elbo_without_the_guide(model, guide):
    proposed = trace(guide).get_trace()
    return trace(replay(model, trace=proposed)).get_trace().log_prob_sum()


def elbo_of_one_seed(model, guide):
    with seed(rng_seed=0):
        return elbo(model, guide)


def with_gaps(readings, there, noise=0.5):
    length = sample("length", dist.Normal(10.0, 2.0))
    with plate("readings", len(readings)), mask(mask=there):
        sample("reading", dist.Normal(length, noise), obs=readings)


def with_a_mask_of_data(readings, there):
    length = sample("length", dist.Normal(10.0, 2.0))
    with plate("readings", len(readings)):
        sample("reading", dist.Normal(length, 0.5), obs=readings, obs_mask=there)


def with_rows_dropped(readings, there):
    length = sample("length", dist.Normal(10.0, 2.0))
    kept = readings[there]
    with plate("readings", len(kept)):
        sample("reading", dist.Normal(length, 0.5), obs=kept)


def gaps_around_everything(readings, there):
    with mask(mask=there):
        with_gaps(readings, torch.ones(len(there), dtype=torch.bool))


def gaps_forgotten(readings, there):
    with_gaps(readings, torch.ones(len(there), dtype=torch.bool))


def replicated(model, n):
    with plate("runs", n, dim=-2):
        return trace(uncondition(model)).get_trace().nodes["y"].value


def replicated_data(model, n):
    return trace(model).get_trace().nodes["y"].value.expand(n, -1)


def replicated_from_one_z(model, n):
    z = trace(model).get_trace().nodes["z"].value
    with plate("runs", n, dim=-2):
        fixed = substitute(uncondition(model), data={"z": 0 * z})
        return trace(fixed).get_trace().nodes["y"].value


class Mirror(Handler):
    def __init__(self, fn, run):
        super().__init__(fn)
        self.run = run

    def process_message(self, msg):
        if msg.type == "sample" and msg.value is None:
            msg.value = 2 * msg.fn.mean - self.run.nodes[msg.name].value


def mirrored(model, run):
    return trace(Mirror(model, run)).get_trace()


def mirrored_at_old_means(model, run):
    latent = {n: run.nodes[n] for n in run.stochastic_nodes}
    values = {n: 2 * site.fn.mean - site.value for n, site in latent.items()}
    return trace(substitute(model, data=values)).get_trace()


def mirrored_at_zero(model, run):
    values = {n: -run.nodes[n].value for n in run.stochastic_nodes}
    return trace(substitute(model, data=values)).get_trace()


RIGHT = [
    ("elbo", elbo),
    ("with_gaps", with_gaps),
    ("with_gaps", with_rows_dropped),
    ("with_gaps", with_a_mask_of_data),
    ("replicated", replicated),
    ("mirrored", mirrored),
]
WRONG = [
    ("elbo", "not-replayed", elbo_of_two_draws, "different draws"),
    ("elbo", "no-guide", elbo_without_the_guide, "guide's own"),
    ("elbo", "sign", lambda m, g: -elbo(m, g), "sign"),
    ("elbo", "constant", elbo_of_one_seed, "seed"),
    ("elbo", "wrong-value", lambda m, g: elbo(m, g) + 1.0, "the ELBO is"),
    ("elbo", "empty", lambda m, g: None, "nothing"),
    ("with_gaps", "not-masked", gaps_forgotten, "as if they were there"),
    ("with_gaps", "prior-masked", gaps_around_everything, "prior"),
    ("with_gaps", "inverted", lambda r, t: with_gaps(r, ~t), "true where a row counts"),
    ("with_gaps", "likelihood", lambda r, t: with_gaps(r, t, 0.25), "0.5"),
    ("with_gaps", "empty", lambda r, t: None, "no site"),
    ("replicated", "observed", replicated_data, "the observed one"),
    ("replicated", "wrong-value", replicated_from_one_z, "standard deviation"),
    ("replicated", "shape", lambda m, n: replicated(m, n)[:2], "(2, 3)"),
    ("replicated", "empty", lambda m, n: None, "nothing"),
    ("mirrored", "old-mean", mirrored_at_old_means, "in the old run"),
    ("mirrored", "at-zero", mirrored_at_zero, "at 0"),
    ("mirrored", "same", lambda m, r: trace(replay(m, trace=r)).get_trace(), "the old one"),
    ("mirrored", "wrong-value", lambda m, r: trace(m).get_trace(), "process_message"),
    ("mirrored", "not-a-trace", lambda m, r: m, "a function"),
    ("mirrored", "empty", lambda m, r: None, "nothing"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_handlers_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_handlers_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
