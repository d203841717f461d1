"""A vector that was never declared one variable

group: Shapes and plates
why: `dist.Normal(torch.zeros(3), 1.0)` is three independent variables side by side. In a model
each such dimension belongs to a plate, or to one vector-valued variable.
cure: A weight vector is one variable: `.to_event(1)`, in the model and in the guide.
site: w
"""


def model():
    sample("w", dist.Normal(torch.zeros(3), 1.0))  # <- here


def guide():
    loc = param("loc", torch.zeros(3))
    sample("w", dist.Normal(loc, 1.0))


SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
