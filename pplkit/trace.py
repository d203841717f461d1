"""What happened in one run: its statements, their values and their scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import checks, display
from .effects import Message


class Trace(display.Tabled):
    """One run of a model. `trace.nodes[name]` is the site of that name, in the order of execution.
    `print(trace)` shows it as a table, and so does a notebook.

    A site knows its statement (`type`, `name`, `fn`, `plates`, `where`) and its outcome (`value`,
    `is_observed`, `log_prob`). The run's arguments and result are the nodes `_INPUT` and `_RETURN`.

    >>> import torch, pplkit, pplkit.distributions as dist
    >>> def model():
    ...     return pplkit.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
    >>> tr = pplkit.handlers.trace(model).get_trace()
    >>> tr.nodes["x"].is_observed, round(tr.log_prob_sum().item(), 4)
    (True, -0.9189)
    """

    def __init__(self):
        self.nodes: dict[str, Message] = {}

    def add(self, site: Message) -> None:
        self.nodes[site.name] = site

    def __getitem__(self, name: str) -> Message:
        return self.nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def copy(self) -> Trace:
        """Another trace with copies of the sites; values are shared."""
        twin = Trace()
        twin.nodes = {name: copy.copy(site) for name, site in self.nodes.items()}
        return twin

    def sites(self, *types: str) -> list[Message]:
        """The sites of these types (`sample`, `param`, `plate`, `deterministic`), in order."""
        return [site for site in self.nodes.values() if site.type in types]

    @property
    def stochastic_nodes(self) -> list[str]:
        """Names of the sample sites that were drawn."""
        return [site.name for site in self.sites("sample") if not site.is_observed]

    @property
    def observation_nodes(self) -> list[str]:
        """Names of the sample sites that were observed."""
        return [site.name for site in self.sites("sample") if site.is_observed]

    @property
    def param_nodes(self) -> list[str]:
        """Names of the parameters that were read."""
        return [site.name for site in self.sites("param")]

    def log_prob_sum(
        self, site_filter: Callable[[str, Message], bool] = lambda name, site: True
    ) -> Tensor:
        """Joint log-probability of the sample sites that pass the filter: a scalar.

        >>> import pplkit
        >>> float(Trace().log_prob_sum())
        0.0
        """
        terms = [s.log_prob_sum for s in self.sites("sample") if site_filter(s.name, s)]
        return sum(terms[1:], terms[0]) if terms else torch.zeros(())

    def compute_log_prob(self) -> None:
        """Compute every sample site's log-probability now, rather than when it is first read."""
        for site in self.sites("sample"):
            site.log_prob  # noqa: B018

    def detach_(self) -> None:
        """Cut every drawn value off from what it was computed from."""
        for site in self.sites("sample"):
            if not site.is_observed:
                site.value = site.value.detach()

    def format_shapes(self, title: str = "Trace Shapes:", last_site: str | None = None) -> str:
        """The shapes of every site, laid out as in Pyro: batch dimensions left of the bar, event
        dimensions right of it. `print(trace)` shows more.

        Args:
            title: the first line.
            last_site: the last site to show.

        >>> import pplkit, pplkit.distributions as dist
        >>> def model():
        ...     pplkit.sample("x", dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
        >>> text = pplkit.handlers.trace(model).get_trace().format_shapes()
        >>> print(text.replace(" " * 6, ""))
        Trace Shapes:
         Param Sites:
        Sample Sites:
         x dist 3 | 2
          value 3 | 2
        """
        return display.format_shapes(self, title, last_site)

    def check_plates(self) -> None:
        """Raise ShapeError if a log-probability has a dimension that belongs to no plate."""
        for site in self.sites("sample"):
            checks.plated(site)
