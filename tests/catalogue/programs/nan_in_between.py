"""A NaN that is born between the sites

group: Numbers that fail
why: 0 divided by 0 is not a number, and whatever is computed from it is none.
cure: Keep the divisor away from 0.
site: ratio
"""


def model():
    mu = sample("mu", dist.Normal(0.0, 1.0))
    ratio = deterministic("ratio", (mu - mu) / (mu - mu))  # <- here
    factor("penalty", -ratio)



def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("mu", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
