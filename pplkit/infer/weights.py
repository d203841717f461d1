"""Draws with weights: what they are worth, and draws of equal weight made from them."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import errors
from ..randomness import drawing


class Evidence(NamedTuple):
    """An estimate of a log-evidence, with its Monte-Carlo standard error."""

    value: Tensor
    error: Tensor


class LogWeights:
    """What can be said of draws by their `log_weights`, a tensor of shape `(num_samples,)`.

    >>> class Draws(LogWeights):
    ...     log_weights = torch.tensor([0.0, 0.0, 0.0, -100.0])
    >>> round(Draws().get_ESS().item(), 3), round(Draws().get_log_normalizer().item(), 3)
    (3.0, -0.288)
    """

    log_weights: Tensor

    def get_log_normalizer(self) -> Tensor:
        """The logarithm of the weights' mean: an estimate of the log-evidence; a scalar."""
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    def get_log_evidence(self) -> Evidence:
        """The log-evidence `value`, and the standard `error` of that estimate.

        The error is the delta method's: the standard error of the mean weight, relative to it. It
        is itself an estimate from the weights, and too small where their tail is heavy: see
        `get_pareto_k`. With a single draw it is infinite.
        """
        number = len(self.log_weights)
        lost = (number / self.get_ESS() - 1).clamp(min=0.0)
        error = (lost / (number - 1)).sqrt() if number > 1 else lost.new_tensor(math.inf)
        return Evidence(self.get_log_normalizer(), error)

    def get_normalized_weights(self, log_scale: bool = False) -> Tensor:
        """The weights, or their logarithms, scaled to the sum 1; shape `(num_samples,)`."""
        normalized = self.log_weights - self.log_weights.logsumexp(0)
        return normalized if log_scale else normalized.exp()

    def get_ESS(self) -> Tensor:
        """The effective sample size, 1 / sum of the squared normalised weights; a scalar.

        So many draws of the posterior itself would tell about as much; between 1 and `num_samples`.
        """
        return (-(2 * self.get_normalized_weights(log_scale=True)).logsumexp(0)).exp()

    def get_pareto_k(self) -> float:
        """The tail index of the weights, by ArviZ (Vehtari, Simpson, Gelman, Yao and Gabry, 2024,
        "Pareto smoothed importance sampling").

        Below 0.5 estimates converge as they should; up to 0.7 they can still be used; above, a few
        draws decide, and neither the effective sample size nor an error can be trusted.
        Minus infinity where all weights are equal; infinite where there are too few to tell.

        Raises:
            ImportError: ArviZ is not installed.
        """
        return self._smoothed("get_pareto_k")[1]

    def get_smoothed_weights(self, log_scale: bool = False) -> Tensor:
        """The normalised weights, the largest replaced by quantiles of a Pareto distribution fitted
        to them; shape `(num_samples,)`. By ArviZ.

        Raises:
            ImportError: ArviZ is not installed.
        """
        smoothed = self._smoothed("get_smoothed_weights")[0]
        return smoothed if log_scale else smoothed.exp()

    def _smoothed(self, asked: str) -> tuple[Tensor, float]:
        return smoothed(self.log_weights.detach(), asked)


def smoothed(log_weights: Tensor, asked: str) -> tuple[Tensor, float]:
    """Pareto-smoothed log-weights with sum 1, and their tail index."""
    plain = log_weights.double()
    possible = plain > -math.inf
    kept = plain[possible]
    rounding = 100 * torch.finfo(log_weights.dtype).eps * max(1.0, kept.abs().max().item())
    if kept.max() - kept.min() <= rounding:
        return log_weights - log_weights.logsumexp(0), -math.inf
    arviz = arviz_for(asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what the index says itself
        kept, k = arviz.psislw(kept.cpu().numpy())
    found = torch.full_like(plain, -math.inf)
    found[possible] = torch.as_tensor(kept, dtype=plain.dtype, device=plain.device)
    return found.to(log_weights.dtype), float(k)


def arviz_for(asked: str) -> Any:
    """ArviZ, imported when it is first needed; `asked` says in an error what needs it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of its next major version
            import arviz
    except ImportError as fault:
        raise errors.missing_package("arviz", asked) from fault
    if not hasattr(arviz, "InferenceData"):
        raise errors.other_arviz(asked, arviz.__version__)
    return arviz


def systematic(log_weights: Tensor, num_samples: int | None = None) -> Tensor:
    """Indices of draws, in proportion to their weights, with little more noise than rounding: a
    comb of `num_samples` teeth at a random place; shape `(num_samples,)`, in ascending order.

    >>> systematic(torch.tensor([0.0, float("-inf"), 0.0]), 4)
    tensor([0, 0, 2, 2])
    """
    number = len(log_weights) if num_samples is None else num_samples
    shares = log_weights.double().softmax(0).cumsum(0)
    with drawing():
        place = torch.rand((), dtype=torch.float64, device=log_weights.device)
    teeth = (torch.arange(number, dtype=torch.float64, device=log_weights.device) + place) / number
    found = torch.searchsorted(shares / shares[-1], teeth, right=True)
    last = (log_weights > -math.inf).nonzero().max()  # a tooth at the very end
    return found.clamp(max=last)


def check_log_weights(what: str, log_weights: Any, number: int | None = None) -> Tensor:
    """Log-weights as given by a user: a row of numbers, not all of them minus infinity."""
    if not isinstance(log_weights, Tensor) or log_weights.dim() != 1 or not len(log_weights):
        expected = "a tensor of shape (num_samples,)"
        raise errors.wrong_argument(what, "log_weights=", log_weights, expected)
    if number is not None and len(log_weights) != number:
        raise errors.weights_for_draws(what, len(log_weights), number)
    check_possible(what, log_weights)
    return log_weights


def check_possible(what: str, log_weights: Tensor, culprit: Any = None) -> None:
    """Raise unless the weights can be normalised."""
    if log_weights.isnan().any() or (log_weights == math.inf).any():
        raise errors.weights_not_finite(what, log_weights, culprit)
    if not (log_weights > -math.inf).any():
        raise errors.weights_all_zero(what, len(log_weights), culprit)
