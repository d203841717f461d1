"""Markov chain Monte Carlo: draws from a posterior, by chains that run side by side.

A chain is a row of a batch: all take their transitions together, in one vectorised run. Randomness
is drawn apart from what is computed from it: for each transition and chain a row of standard normal
numbers and a seed of 64 bits, so that Python and native code go the same ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..randomness import drawing
from .adaptation import DualAveraging, Metric, Phase, Spread, clamped, rows_seen, schedule
from .hmc import HMC, Outcome, Point, _wrapped, hashed, reasonable_step
from .potential import (
    Density,
    Potential,
    check_proper,
    check_ways,
    no_start,
    of_chain,
    starts,
)
from .svi import _progress

FIELDS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
_KINDS = {"diverging": torch.bool, "num_steps": torch.int64}
_NUMBERS, _TRANSITIONS = 1 << 20, 1024  # of normal numbers, of transitions: in a block at most
_RUNAWAY = 1e7  # a step size that nothing holds back


class Noise:
    """Base noise for transitions: `(chains, size)` normal numbers, and a seed for each chain.

    It is drawn in blocks, each from a stream of its own, so that any may be had again.
    """

    def __init__(self, rng_seed: int, chains: int, size: int, device: torch.device):
        self.rng_seed, self.shape, self.device = rng_seed, (chains, size), device
        numbers = max(1, _NUMBERS // max(1, chains * size))
        self.length = min(_TRANSITIONS, 1 << (numbers.bit_length() - 1))
        self._held: tuple[int, Tensor, Tensor] | None = None

    def block(self, t: int) -> tuple[int, Tensor, Tensor]:
        """The block of transition `t`: its first transition, `(transitions, chains, size)` numbers,
        and `(transitions, chains)` seeds.
        """
        number = t // self.length
        if self._held is None or self._held[0] != number * self.length:
            stream = torch.Generator(self.device).manual_seed(derived(self.rng_seed, 1, number))
            normal = torch.randn(
                (self.length, *self.shape),
                generator=stream, dtype=torch.float64, device=self.device,
            )  # fmt: skip
            bounds = -(1 << 63), (1 << 63) - 1
            shape = self.length, self.shape[0]
            seeds = torch.randint(*bounds, shape, generator=stream, device=self.device)
            self._held = number * self.length, normal, seeds
        return self._held


def derived(rng_seed: int, *path: int) -> int:
    """A seed that follows from another and some whole numbers."""
    state = torch.tensor(_wrapped(rng_seed))
    for number in path:
        state = hashed(state, torch.tensor(number))
    return int(state) & ((1 << 63) - 1)


class Chains:
    """Chains in one vectorised run, all of the same age.

    Args:
        kernel: `HMC` or `NUTS`.
        potential: of rows `(chains, size)`; returns `(chains,)` and the gradient.
        at: where chains start, with potential and gradient there; momenta do not matter.
        warmup: how many transitions adapt.
        rng_seed: of all noise.
        within: `(size, size)`, 1 for each pair of numbers whose covariance is learnt, or 0.

    Attributes:
        age: how many transitions have been made.
        point, step, metric: where chains are, and with what step size and metric they move on.
    """

    def __init__(
        self,
        kernel: HMC,
        potential: Callable,
        at: Point,
        warmup: int,
        rng_seed: int,
        within: Tensor | None = None,
    ):
        chains, size = at.q.shape
        self.kernel, self.potential, self.warmup, self.age = kernel, potential, warmup, 0
        self.noise = Noise(rng_seed, chains, size, at.q.device)
        self.point = at
        self.within = within  # which pairs of numbers may covary; None: all, or none
        self.metric = Metric.unit(chains, size, bool(kernel.full_mass), at.q.device)
        self.accepted = torch.zeros_like(at.potential)  # at the last transition
        self.step = torch.full_like(at.potential, kernel.step_size)
        self.phases = schedule(warmup) if kernel.adapt_mass_matrix else [Phase.PLAIN] * warmup
        self.rows_seen = rows_seen(self.phases)
        if kernel.adapt_step_size and warmup:
            self._guess(self.noise.block(0)[1][0])
        self.averaging = DualAveraging.around(self.step)
        self.spread = Spread.empty(self.metric)

    def advance(self) -> Outcome:
        """One transition of each chain."""
        first, normal, seeds = self.noise.block(self.age)
        noise, seeds = normal[self.age - first], seeds[self.age - first]
        outcome = self.kernel.transition(
            self.point, self.step, self.metric, noise, seeds, self.potential
        )
        self.point, self.accepted = outcome.point, outcome.accept_prob
        if self.age < self.warmup:
            self._adapt(outcome, noise)
        self.age += 1
        return outcome

    def _adapt(self, outcome: Outcome, noise: Tensor) -> None:
        finding = self.kernel.adapt_step_size
        if finding:
            self.averaging.update(outcome.accept_prob, self.kernel.target_accept_prob)
            self.step = clamped(self.averaging.log_step.exp())
        phase, rows = self.phases[self.age], self.rows_seen[self.age]
        if phase != Phase.PLAIN:
            self.spread.add(self.point.q, rows)
        if phase == Phase.CLOSE:
            self.metric = self.spread.metric(rows, self.within)
            self.spread = Spread.empty(self.metric)
            if finding:
                self._guess(noise)
                self.averaging = DualAveraging.around(self.step)
        if finding and self.age == self.warmup - 1:
            self.step = clamped(self.averaging.log_mean.exp())

    def _guess(self, noise: Tensor) -> None:
        self.step = reasonable_step(self.point, self.step, self.metric, noise, self.potential)


class Draws:
    """What chains have drawn: rows of real numbers `(chains, draws, size)`, and what else is known
    of each draw, `(chains, draws)`.

    Attributes:
        done: how many draws each chain has.
    """

    def __init__(self, chains: int, number: int, size: int, device: torch.device):
        self.rows = torch.empty(chains, number, size, dtype=torch.float64, device=device)
        self.fields = {
            name: torch.empty(chains, number, dtype=_KINDS.get(name, torch.float64), device=device)
            for name in FIELDS
        }
        self.done = 0

    def add(self, outcome: Outcome) -> None:
        self.rows[:, self.done] = outcome.point.q
        known = outcome._asdict() | {"potential_energy": outcome.point.potential}
        for name, field in self.fields.items():
            field[:, self.done] = known[name]
        self.done += 1


class MCMC:
    """Draws from a model's posterior by Markov chains.

    Args:
        kernel: how chains move: `NUTS(model)` or `HMC(model)`.
        num_samples: draws of each chain.
        warmup_steps: transitions before them, in which chains adapt; as many, unless told.
        initial_params: where chains start: unconstrained values by variable, of shape
            `(num_chains, ...)`; the kernel's `init_strategy` tells otherwise.
        num_chains: how many; they run side by side, as rows of a batch or on threads.
        disable_progbar: True shows no progress bar.
        transforms: by variable, maps from its support to real numbers in place of its own.
        seed: of all randomness; drawn from this context's random stream unless given.
        progress_bar: True shows one, by tqdm; None, if the program runs in a terminal.
        compile: True makes native code of the whole run, which takes about ten seconds when this
            machine has not seen the model before; "auto" does so on the side, when the run would
            take longer than five seconds in Python, and goes over to it. Where it cannot be done, a
            warning says why, and the run goes on in Python.

    Pyro's `hook_fn` is called after each transition, in Python, with the kernel, unconstrained
    values, "Warmup" or "Sample", and the transition's number. `mp_context`, `disable_validation`
    and `save_params` are accepted and change nothing.

    `run` takes the model's arguments. An interrupt keeps the draws made so far.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer import NUTS
    >>> def model(y):
    ...     mu = pplkit.sample("mu", dist.Normal(0.0, 10.0))
    ...     with pplkit.plate("data", len(y)):
    ...         pplkit.sample("y", dist.Normal(mu, 1.0), obs=y)
    >>> mcmc = MCMC(NUTS(model), num_samples=100, num_chains=4, seed=0)
    >>> mcmc.run(torch.tensor([1.0, 2.0, 3.0]))
    >>> mcmc.get_samples(group_by_chain=True)["mu"].shape
    torch.Size([4, 100])
    >>> bool((mcmc.get_samples()["mu"].mean() - 2.0).abs() < 0.1)
    True
    """

    def __init__(
        self,
        kernel: HMC,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Tensor] | None = None,
        num_chains: int = 1,
        hook_fn: Callable | None = None,
        mp_context: str | None = None,
        disable_progbar: bool = False,
        disable_validation: bool = True,
        transforms: Mapping[str, Any] | None = None,
        save_params: list[str] | None = None,
        *,
        seed: int | None = None,
        progress_bar: bool | None = None,
        compile: bool | str = "auto",
    ):
        if not isinstance(kernel, HMC):
            remedy = "make one of its class, with the model: NUTS(model)"
            raise errors.wrong_argument("MCMC", "kernel=", kernel, "HMC or NUTS", remedy)
        warmup_steps = num_samples if warmup_steps is None else warmup_steps
        for label, number, least in (
            ("num_samples=", num_samples, 1),
            ("warmup_steps=", warmup_steps, 0),
            ("num_chains=", num_chains, 1),
        ):
            if type(number) is not int or number < least:
                expected = f"a whole number, at least {least}"
                raise errors.wrong_argument("MCMC", label, number, expected)
        if seed is not None and (type(seed) is not int or not -(1 << 63) <= seed < 1 << 63):
            raise errors.wrong_argument("MCMC", "seed=", seed, "a whole number of up to 63 bits")
        if compile not in (True, False, "auto"):
            raise errors.wrong_argument("MCMC", "compile=", compile, 'True, False or "auto"')
        if hook_fn is not None and not callable(hook_fn):
            raise errors.wrong_argument("MCMC", "hook_fn=", hook_fn, "a function")
        if kernel.potential_fn is not None and not initial_params:
            needed = "unconstrained values by name, for potential_fn"
            raise errors.missing_argument("MCMC", "initial_params=", needed)
        self.kernel, self.num_samples, self.warmup_steps = kernel, num_samples, warmup_steps
        self.initial_params, self.num_chains, self.hook_fn = initial_params, num_chains, hook_fn
        self.transforms = dict(kernel.transforms or {}) | dict(transforms or {})
        self.seed, self.compile = seed, compile
        self.progress_bar = False if disable_progbar else progress_bar
        self._draws: Draws | None = None
        self._values: dict[str, Tensor] | None = None
        self.chains: Chains | None = None

    # -- running -----------------------------------------------------------------------------
    def run(self, *args, **kwargs) -> None:
        """Draw from the posterior, given the model's arguments.

        Raises:
            ModelError: no continuous latent variable; a discrete one that is not summed out; a
                plate of which the model takes a part of the rows.
            InferenceError: an improper posterior; a start where the density is zero.
        """
        self._run_on(args, kwargs, per_chain=False)

    def run_each(self, *args, **kwargs) -> None:
        """As `run`, with data of its own for each chain: tensors among the arguments have a first
        dimension of `num_chains`. Then `get_samples(group_by_chain=True)` has the draws of one
        posterior in each row.
        """
        for x in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(x, Tensor) and x.shape[:1] != (self.num_chains,):
                expected = f"tensors whose first dimension is {self.num_chains}, for the chains"
                raise errors.wrong_argument("run_each", "data=", x, expected)
        self._run_on(args, kwargs, per_chain=True)

    def _run_on(self, args: tuple, kwargs: dict, per_chain: bool) -> None:
        rng_seed = self._seed()
        self._draws = self._values = None
        first = of_chain((args, kwargs), 0) if per_chain else (args, kwargs)
        density = Density(
            self.kernel.model,
            *first,
            potential_fn=self.kernel.potential_fn,
            example=self._examples(),
            transforms=self.transforms,
            max_plate_nesting=self.kernel.max_plate_nesting,
        )
        potential = Potential(density, args, kwargs, per_chain)
        at = self._start(potential, rng_seed)
        check_proper(potential, at.q[0])
        within = self.kernel.within(density.variables)
        chains = Chains(self.kernel, potential, at, self.warmup_steps, rng_seed, within)
        if bool((chains.step > _RUNAWAY).any()) and self.kernel.adapt_step_size:
            raise errors.improper_posterior([])
        self.chains = chains
        self._draws = Draws(self.num_chains, self.num_samples, density.size, at.q.device)
        self._run(chains, self._draws)
        check_ways(potential, at.q, chains.point.q)
        diverged = int(self._draws.fields["diverging"].sum())
        if diverged:
            errors.warn(errors.divergences(diverged, self.num_chains * self.num_samples))

    def _run(self, chains: Chains, draws: Draws) -> None:
        total = self.warmup_steps + self.num_samples
        with ExitStack() as stack:
            bar = stack.enter_context(_progress(total, self.progress_bar))
            racing = stack.enter_context(self._racing(chains))
            while chains.age < total:
                native = racing(chains.age, total - chains.age)
                if native is not None:
                    age = native.take(draws)
                else:
                    age = self._advance(chains, draws)
                if bar is not None:
                    _show(bar, chains, draws, age)

    def _advance(self, chains: Chains, draws: Draws) -> int:
        outcome = chains.advance()
        if chains.age > self.warmup_steps:
            draws.add(outcome)
        if self.hook_fn is not None:
            self._hook(chains)
        return chains.age

    @contextmanager
    def _racing(self, chains: Chains):
        """A function from transitions done and left to the native code that makes them, or None."""
        if not self.compile or self.hook_fn is not None:
            if self.compile is True:
                errors.warn(errors.chains_not_compiled("hook_fn= is called after each transition"))
            yield lambda done, left: None
            return
        from .native_chains import Race

        race = Race(chains, patient=self.compile is True)
        try:
            yield race.native
        finally:
            race.stop()

    def _hook(self, chains: Chains) -> None:
        free = chains.potential.density.split(chains.point.q)
        if self.num_chains == 1:
            free = {name: x[0] for name, x in free.items()}
        warming = chains.age <= self.warmup_steps
        number = chains.age - 1 - (0 if warming else self.warmup_steps)
        self.hook_fn(self.kernel, free, "Warmup" if warming else "Sample", number)

    def _seed(self) -> int:
        if self.seed is not None:
            return self.seed
        with drawing():
            return int(torch.randint(0, (1 << 63) - 1, ()))

    # -- where chains start ------------------------------------------------------------------
    def _examples(self) -> dict[str, Tensor]:
        return {name: x[0] for name, x in self._initial(None).items()}

    def _initial(self, density: Density | None) -> dict[str, Tensor]:
        """The values given to start from, with a dimension of chains."""
        given, known = {} if self.initial_params is None else self.initial_params, {}
        if not isinstance(given, Mapping):
            expected = "a dictionary by variable"
            raise errors.wrong_argument("MCMC", "initial_params=", given, expected)
        if density is not None:
            known = {v.name: v.free_shape for v in density.variables}
            if given and given.keys() != known.keys():
                raise errors.initial_params(
                    ", ".join(map(repr, given)), ", ".join(map(repr, known))
                )
        found = {}
        for name, value in given.items():
            try:
                value = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):
                shown = f"{name!r}: {type(value).__name__}"
                raise errors.initial_params(shown, "numbers, or a tensor of them") from None
            if self.num_chains == 1 and (density is None or value.shape == known.get(name)):
                value = value[None]
            expected = (self.num_chains, *known.get(name, value.shape[1:]))
            if value.shape != expected:
                found_shape = f"shape {tuple(value.shape)} for {name!r}"
                raise errors.initial_params(found_shape, f"shape {expected}")
            found[name] = value
        return found

    def _start(self, potential: Potential, rng_seed: int) -> Point:
        density = potential.density
        given = self._initial(density if density.potential_fn is None else None)
        if not given:
            at, value, grad = starts(
                potential,
                self.kernel.init_strategy,
                self.num_chains,
                lambda chain, attempt: derived(rng_seed, 0, chain, attempt) & 0xFFFFFFFF,
            )
            return Point(at, torch.zeros_like(at), value, grad)
        at = density.joined(given, 1)
        value, grad = potential(at)
        well = value.isfinite() & grad.isfinite().all(-1)
        if not bool(well.all()):
            chain = int((~well).nonzero()[0])
            raise no_start(potential, at[chain], chain, "at initial_params")
        return Point(at, torch.zeros_like(at), value, grad)

    # -- what has been drawn -----------------------------------------------------------------
    def get_samples(
        self, num_samples: int | None = None, group_by_chain: bool = False
    ) -> dict[str, Tensor]:
        """Draws of each latent variable, by name, as `Predictive` takes them.

        Args:
            num_samples: that many, chosen at random with replacement, by this context's random
                stream; all unless told.
            group_by_chain: shapes `(num_chains, num_samples, ...)`; else chains follow each other
                along one dimension of draws.
        """
        draws = self._drawn()
        if self._values is None:
            self._values = self.chains.potential.values(draws.rows[:, : draws.done])
        values = self._values
        if not group_by_chain:
            values = {name: x.flatten(0, 1) for name, x in values.items()}
        if num_samples is None:
            return dict(values)
        if type(num_samples) is not int or num_samples < 1:
            expected = "a whole number, at least 1"
            raise errors.wrong_argument("get_samples", "num_samples=", num_samples, expected)
        dim = int(group_by_chain)
        with drawing():
            size = next(iter(values.values())).shape[dim]
            chosen = torch.randint(size, (num_samples,), device=draws.rows.device)
        return {name: x.index_select(dim, chosen) for name, x in values.items()}

    def get_extra_fields(self, group_by_chain: bool = False) -> dict[str, Tensor]:
        """What is known of each draw: `diverging`, whether its path left the level of energy;
        `energy`, potential and kinetic; `potential_energy`; `accept_prob`, averaged over the path;
        `num_steps`, how many leapfrog steps it took. Shapes as of a scalar variable's draws.
        """
        draws = self._drawn()
        fields = {name: x[:, : draws.done] for name, x in draws.fields.items()}
        return fields if group_by_chain else {k: x.flatten() for k, x in fields.items()}

    def diagnostics(self) -> dict[str, dict]:
        """As Pyro's: for each variable `n_eff` (bulk) and `r_hat` (rank-normalised), of its shape;
        `divergences`, the numbers of these draws by chain; `acceptance rate` by chain.

        Needs the package arviz.
        """
        table = self.summary()
        found: dict[str, dict] = {
            name: {"n_eff": row["ess_bulk"], "r_hat": row["r_hat"]} for name, row in table.items()
        }
        fields = self.get_extra_fields(group_by_chain=True)
        found["divergences"] = {
            f"chain {i}": x.nonzero().flatten().tolist() for i, x in enumerate(fields["diverging"])
        }
        found["acceptance rate"] = {
            f"chain {i}": float(x.mean()) for i, x in enumerate(fields["accept_prob"])
        }
        return found

    def summary(self, prob: float = 0.9) -> Summary:
        """A table of the draws: print it, or read its numbers.

        Args:
            prob: of the interval between quantiles that is told.

        Needs the package arviz.
        """
        if not isinstance(prob, int | float) or not 0 < prob < 1:
            raise errors.wrong_argument("summary", "prob=", prob, "a number between 0 and 1")
        draws = {
            name: x.detach().cpu() for name, x in self.get_samples(group_by_chain=True).items()
        }
        diverged = int(self.get_extra_fields()["diverging"].sum())
        return Summary(draws, float(prob), diverged)

    def _drawn(self) -> Draws:
        if self._draws is None or not self._draws.done:
            raise errors.nothing_drawn()
        return self._draws

    def __repr__(self) -> str:
        kernel = type(self.kernel).__name__
        size = f"num_samples={self.num_samples}, num_chains={self.num_chains}"
        return f"MCMC({kernel}, {size})"


def _show(bar, chains: Chains, draws: Draws, age: int) -> None:
    accept = float(chains.accepted.mean())
    diverged = int(draws.fields["diverging"][:, : draws.done].sum()) if draws.done else 0
    told = {"accept": f"{accept:.2f}", "diverging": diverged}
    bar.set_postfix(told, refresh=False)
    bar.update(age - bar.n)


class Summary(dict):
    """What draws say of each variable: `mean`, `sd`, `median`, two quantiles, `r_hat`
    (rank-normalised), `ess_bulk`, `ess_tail`, `mcse_mean`; tensors of its shape. Prints as a table.

    >>> import math
    >>> def draw(chain):
    ...     return [math.sin(9.7 * i + chain) for i in range(100)]
    >>> table = Summary({"x": torch.tensor([draw(0), draw(1)])}, 0.9, 0)
    >>> sorted(table["x"])[:3]
    ['5.0%', '95.0%', 'ess_bulk']
    """

    def __init__(self, draws: Mapping[str, Tensor], prob: float, diverged: int):
        super().__init__()
        self.diverged = diverged
        try:
            import arviz
        except ImportError as fault:
            raise errors.missing_package("arviz", "MCMC.summary()") from fault
        data = arviz.convert_to_dataset({name: x.double().numpy() for name, x in draws.items()})
        found = {
            "r_hat": arviz.rhat(data),
            "ess_bulk": arviz.ess(data, method="bulk"),
            "ess_tail": arviz.ess(data, method="tail"),
            "mcse_mean": arviz.mcse(data, method="mean"),
        }
        low, high = (1 - prob) / 2, (1 + prob) / 2
        for name, x in draws.items():
            flat = x.flatten(0, 1).double()
            self[name] = {
                "mean": flat.mean(0),
                "sd": flat.std(0),
                "median": flat.quantile(0.5, 0),
                f"{100 * low:.1f}%": flat.quantile(low, 0),
                f"{100 * high:.1f}%": flat.quantile(high, 0),
            } | {key: torch.as_tensor(table[name].values) for key, table in found.items()}

    def __repr__(self) -> str:
        heads = next(iter(self.values())).keys()
        lines = [["", *heads]]
        for name, row in self.items():
            for index in torch.ones_like(row["mean"]).nonzero().tolist():
                label = name + (f"[{','.join(map(str, index))}]" if index else "")
                lines.append([label, *(_told(k, x[tuple(index)]) for k, x in row.items())])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        rows = [
            "  ".join(
                x.ljust(w) if i == 0 else x.rjust(w)
                for i, (x, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*rows, f"divergences: {self.diverged}"])


def _told(key: str, number: Tensor) -> str:
    if key.startswith("ess"):
        return f"{float(number):.0f}"
    return f"{float(number):.3f}" if key == "r_hat" else f"{float(number):.4g}"
