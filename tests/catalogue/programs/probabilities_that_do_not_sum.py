"""Probabilities that do not sum to 1

group: Distributions and their parameters
why: The weights of a Categorical are relative: they are divided by their sum, by torch, by Pyro
and here.
cure: None is needed, if weights were meant. If not, look at why they do not sum to 1.
site: z
"""

weights = torch.tensor([1.0, 1.0, 2.0])


def model():
    sample("z", dist.Categorical(weights), obs=torch.tensor(2))  # <- here


handlers.trace(model).get_trace().log_prob_sum().exp()
