"""A parameter of another shape, left over from an earlier run

group: Parameters
why: Parameters outlive a run. The store still holds the vector of the model that was there before.
cure: Call `clear_param_store()` before the changed model, or use another name.
site: loc
leaves: loc
"""


def first():
    return sample("x", dist.Normal(param("loc", torch.zeros(3)), 1.0).to_event(1))


def second():
    loc = param("loc", torch.tensor(0.0))  # <- here
    return sample("x", dist.Normal(loc, 1.0))


first()
second()
