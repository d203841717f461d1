"""The exercises of the chapter on `sample`: right answers of several kinds, and the usual mistakes."""

import math

import pytest
import torch
from pplwidgets.checks import check

import pplkit.distributions as dist
from pplkit import plate, sample
from pplkit.handlers import condition, replay, seed, substitute, trace

# -- attempts --------------------------------------------------------------------------------------


def attempts(p):
    count = 1
    while not sample(f"attempt_{count}", dist.Bernoulli(p)):
        count += 1
    return count


def attempts_by_recursion(p, depth=0):
    return 1 if sample(f"t{depth}", dist.Bernoulli(p)) else 1 + attempts_by_recursion(p, depth + 1)


def failures(p):
    return attempts(p) - 1


def attempts_of_one_name(p):
    count = 1
    while not sample("attempt", dist.Bernoulli(p)):
        count += 1
    return count


def attempts_in_a_plate(p):
    with plate("attempts", 50):
        works = sample("works", dist.Bernoulli(p))
    return 1 + works.argmax()


def attempts_until_a_failure(p):
    count = 1
    while sample(f"attempt_{count}", dist.Bernoulli(1 - p)):
        count += 1
    return count


def attempts_without_a_name(p):
    return int(dist.Geometric(p).sample()) + 1


def ten_attempts(p):
    return sum(int(sample(f"a{i}", dist.Bernoulli(p))) for i in range(10))


# -- score -----------------------------------------------------------------------------------------


def score(model, values):
    return trace(condition(model, data=values)).get_trace().log_prob_sum()


def score_by_substitution(model, values):
    run = trace(substitute(model, data=values)).get_trace()
    return sum(s.log_prob.sum() for s in run.nodes.values() if s.type == "sample")


def score_of_latents(model, values):
    run = trace(substitute(model, data=values)).get_trace()
    return sum(run.nodes[name].log_prob.sum() for name in run.stochastic_nodes)


def score_of_observed(model, values):
    return score(model, values) - score_of_latents(model, values)


def score_averaged(model, values):
    run = trace(substitute(model, data=values)).get_trace()
    return sum(s.log_prob.mean() for s in run.nodes.values() if s.type == "sample")


# -- redraw ----------------------------------------------------------------------------------------


def redraw(model, run, name):
    rest = run.copy()
    del rest.nodes[name]
    return trace(replay(model, trace=rest)).get_trace()


def redraw_by_condition(model, run, name):
    held = {n: run.nodes[n].value for n in run.stochastic_nodes if n != name}
    return trace(substitute(model, data=held)).get_trace()


def redraw_in_place(model, run, name):
    del run.nodes[name]
    return trace(replay(model, trace=run)).get_trace()


def redraw_the_rest(model, run, name):
    return trace(substitute(model, data={name: run.nodes[name].value})).get_trace()


def redraw_with_a_seed(model, run, name):
    with seed(rng_seed=0):
        return redraw(model, run, name)


# -- log_evidence ----------------------------------------------------------------------------------


def log_evidence(model, n):
    logs = []
    for _ in range(n):
        run = trace(model).get_trace()
        logs.append(sum(run.nodes[name].log_prob.sum() for name in run.observation_nodes))
    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(n)


def likelihoods(model, n):
    with plate("runs", n, dim=-2):
        run = trace(model).get_trace()
    sites = [run.nodes[name] for name in run.observation_nodes]
    return sum(site.log_prob.sum(-1).reshape(-1) for site in sites), run


def log_evidence_at_once(model, n):
    return likelihoods(model, n)[0].exp().mean().log()


def log_evidence_inside(model, n):
    return likelihoods(model, n)[0].mean()


def log_evidence_summed(model, n):
    return torch.logsumexp(likelihoods(model, n)[0], dim=0)


def log_evidence_of_joint(model, n):
    scores, run = likelihoods(model, n)
    return torch.logsumexp(scores + run.nodes["z"].log_prob.reshape(-1), dim=0) - math.log(n)


# -- heard -----------------------------------------------------------------------------------------

OUT = ["seed", "condition", "trace"]
HEARD = {"out": OUT, "back": OUT[::-1], "drawn": ["minutes"]}


def heard(**others):
    return lambda: {**HEARD, **others}


RIGHT = [
    ("heard", heard()),
    ("heard", heard(out=tuple(OUT), drawn={"minutes"})),
    ("heard", heard(out=[seed, condition, trace], drawn="minutes")),
    ("attempts", attempts),
    ("attempts", attempts_by_recursion),
    ("score", score),
    ("score", score_by_substitution),
    ("score", lambda model, values: score(model, values).item()),
    ("redraw", redraw),
    ("redraw", redraw_by_condition),
    ("log_evidence", log_evidence),
    ("log_evidence", log_evidence_at_once),
]
WRONG = [
    ("heard", "outside-first", heard(out=OUT[::-1], back=OUT), "closest"),
    ("heard", "same-way-back", heard(back=OUT), "the other way round"),
    ("heard", "order", heard(out=["condition", "seed", "trace"]), "next to the program"),
    ("heard", "drawn-although-given", heard(drawn=["rain", "minutes"]), "`condition` put"),
    ("heard", "not-drawn", heard(drawn=[]), "no names"),
    ("heard", "other-names", heard(out=["seed", "replay", "trace"]), "`replay`"),
    ("heard", "unanswered", heard(drawn=[...]), "`\"drawn\"`"),
    ("heard", "unanswered", lambda: {}, "`\"out\"`"),
    ("heard", "not-a-dictionary", lambda: OUT, "a list"),
    ("attempts", "failures", failures, "counts too"),
    ("attempts", "same-name", attempts_of_one_name, "Multiple sample sites"),
    ("attempts", "together", attempts_in_a_plate, "one by one"),
    ("attempts", "swapped", attempts_until_a_failure, "0.75"),
    ("attempts", "no-sample", attempts_without_a_name, "no `sample` statement"),
    ("attempts", "stops-elsewhere", ten_attempts, "as soon as"),
    ("attempts", "no-return", lambda p: [attempts(p), None][1], "returned"),
    ("attempts", "empty", lambda p: None, "no `sample` statement"),
    ("score", "drawn", lambda m, v: trace(m).get_trace().log_prob_sum(), "drawn afresh"),
    ("score", "exp", lambda m, v: score(m, v).exp(), "density itself"),
    ("score", "sign", lambda m, v: -score(m, v), "sign"),
    ("score", "latent-only", score_of_latents, "observed sites are missing"),
    ("score", "observed-only", score_of_observed, "latent sites are missing"),
    ("score", "averaged", score_averaged, "averaged"),
    ("score", "not-summed", lambda m, v: torch.zeros(3), "(3,)"),
    ("score", "empty", lambda m, v: None, "returned nothing"),
    ("score", "wrong-value", lambda m, v: score(m, v) + 1.0, "log_prob_sum()"),
    ("redraw", "changed-its-argument", redraw_in_place, "copy"),
    ("redraw", "inverted", redraw_the_rest, "the other way round"),
    ("redraw", "constant", redraw_with_a_seed, "two different seeds"),
    ("redraw", "same", lambda m, r, n: trace(replay(m, trace=r)).get_trace(), "old value"),
    ("redraw", "others-changed", lambda m, r, n: trace(m).get_trace(), "changed too"),
    ("redraw", "not-a-trace", lambda m, r, n: m(), "a Tensor"),
    ("redraw", "empty", lambda m, r, n: None, "returned nothing"),
    ("log_evidence", "log-inside", log_evidence_inside, "average of the logarithms"),
    ("log_evidence", "not-divided", log_evidence_summed, "the sum, not the average"),
    ("log_evidence", "joint", log_evidence_of_joint, "joint"),
    ("log_evidence", "exp", lambda m, n: log_evidence_at_once(m, n).exp(), "logarithm"),
    ("log_evidence", "wrong-value", lambda m, n: 0.7 + log_evidence_at_once(m, n), "exact"),
    ("log_evidence", "empty", lambda m, n: None, "returned nothing"),
    ("log_evidence", "not-a-number", lambda m, n: likelihoods(m, n)[0], "one number"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_to_sample_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_to_sample_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
