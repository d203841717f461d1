"""An automatic guide for a discrete variable

group: Guide and model
why: Automatic guides move real numbers. A coin has no value between heads and tails to move
through.
cure: Sum the variable out, with `infer={"enumerate": "parallel"}` and `TraceEnum_ELBO`, and hide it
from the guide.
site: k
"""


def model():
    k = sample("k", dist.Bernoulli(0.5))  # <- here
    sample("y", dist.Normal(k, 1.0), obs=torch.tensor(0.9))


guide = AutoNormal(model)
SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
