"""One name for a parameter and for a random variable

group: Names
why: A parameter is a number to be optimised, a sample statement a random variable. A guide often
has both for one unknown, and they need two names.
cure: Name the parameter after the site it serves, as in `loc_q` or `loc_mean`.
site: loc
"""


def guide():
    loc = param("loc", torch.tensor(0.0))
    sample("loc", dist.Normal(loc, 1.0))  # <- here


handlers.trace(guide).get_trace().log_prob_sum()
