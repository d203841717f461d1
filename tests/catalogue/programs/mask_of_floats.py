"""A mask of zeros and ones

group: Handlers
why: A mask switches log-probabilities on and off; a number would multiply them, which is what
`scale` does.
cure: Make truth values of them: `mask > 0`.
site: -
"""

keep = torch.tensor([1.0, 0.0, 1.0])


def model():
    with plate("data", 3), handlers.mask(mask=keep):  # <- here
        sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(3))


handlers.trace(model).get_trace().log_prob_sum()
