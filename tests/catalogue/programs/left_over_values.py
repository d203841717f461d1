"""A second fit that starts where the first one ended

group: Parameters
why: Parameters outlive a run. A parameter of the same name and shape keeps the value that an
earlier model gave it; its first value in the program is not looked at.
cure: Call `clear_param_store()` before the second fit. To go on from there, keep the optimiser.
site: loc
leaves: loc
"""


def fit(target):
    def model():
        sample("mu", dist.Normal(target, 1.0))

    def guide():
        loc = param("loc", torch.tensor(0.0))  # <- here
        sample("mu", dist.Normal(loc, 1.0))

    SVI(model, guide, Adam({"lr": 0.5}), Trace_ELBO()).step()


fit(5.0)
fit(-5.0)
