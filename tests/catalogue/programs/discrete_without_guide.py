"""A discrete variable that neither is summed out nor has a guide

group: Guide and model
why: It must be drawn by somebody: by the guide, or not at all, when its values are summed over.
cure: Mark it with `infer={"enumerate": "parallel"}` and use `TraceEnum_ELBO`; or draw it in the
guide.
site: k
"""


def model():
    k = sample("k", dist.Bernoulli(0.5))  # <- here
    sample("y", dist.Normal(k, 1.0), obs=torch.tensor(0.9))


def guide():
    pass


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
