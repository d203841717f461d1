"""Parameters and data on two devices

group: Data
why: Torch computes with tensors that are in one place: all in main memory, or all on one GPU. (Here
`meta`, a device without memory, stands for the second one.)
cure: Move one of them: `.to(device)`.
site: y
"""


def model(data):
    sample("y", dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=data)  # <- here


handlers.trace(model).get_trace(torch.ones(3, device="meta")).log_prob_sum()
