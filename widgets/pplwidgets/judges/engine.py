"""Exercises of chapter 10: how would you build such an engine yourself?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, Normal

from ..judging import Answer, Mistake, described, exercise

# -- a message, past the listeners -----------------------------------------------------------------


class _Listener:
    """Notes what it sees, and answers if it was told to."""

    def __init__(self, name: str, log: list, answer: Tensor | None = None):
        self.name, self.log, self.answer = name, log, answer

    def outward(self, msg):
        self.log.append(("out", self.name))
        if self.answer is not None:
            msg["value"] = self.answer

    def inward(self, msg):
        self.log.append(("in", self.name, msg["value"] is not None))


class _Counted(Normal):
    """A normal distribution that counts its draws."""

    drawn = 0

    def sample(self, *shape):
        self.drawn += 1
        return super().sample(*shape)

    def rsample(self, *shape):
        self.drawn += 1
        return super().rsample(*shape)


@exercise("send", "stack", "msg")
def _send(answer: Answer) -> str:
    """Past the listeners from the inside out, draw if nobody answered, and back."""
    for given, answered in ((None, None), (None, torch.tensor(7.0)), (torch.tensor(2.0), None)):
        log, fn = [], _Counted(0.0, 1.0)
        stack = [
            _Listener("outer", log),
            _Listener("middle", log, answered),
            _Listener("inner", log),
        ]
        msg = {"name": "x", "fn": fn, "value": given, "observed": given is not None}
        returned = answer(list(stack), msg, rng_seed=1)
        out = [entry[1] for entry in log if entry[0] == "out"]
        back = [entry[1:] for entry in log if entry[0] == "in"]
        if not log and returned is None and fn.drawn == 0 and msg["value"] is given:
            raise Mistake(
                "`send` did nothing with its listeners.",
                "Call `outward(msg)` of each, then `inward(msg)` of each.",
                "empty",
            )
        _send_order(out, back)
        known = given if given is not None else answered
        if known is not None and fn.drawn:
            raise Mistake(
                "a value was drawn although one was known.",
                'Draw only where `msg["value"]` is still `None` after the way out.',
                "drawn-anyway",
            )
        if known is None and fn.drawn != 1:
            raise Mistake(
                f"the distribution drew {fn.drawn} times where nobody had answered.",
                "Between the way out and the way back, draw once.",
                "not-drawn",
            )
        if not all(there for _, there in back):
            raise Mistake(
                "on the way back the message had no value.",
                "Draw before it goes back.",
                "drawn-late",
            )
        if returned is not msg["value"] and not (
            isinstance(returned, Tensor) and torch.equal(returned, msg["value"])
        ):
            raise Mistake(
                f"`send` returned {described(returned)} that is not the message's value.",
                'Return `msg["value"]`.',
                "no-return",
            )
    return "out past everybody, a draw only if it is needed, and back."


def _send_order(out: list, back: list) -> None:
    inside_out, outside_in = ["inner", "middle", "outer"], ["outer", "middle", "inner"]
    if not back:
        raise Mistake(
            "no listener heard the message on its way back.", "Call `inward(msg)`.", "no-way-back"
        )
    if out == outside_in:
        raise Mistake(
            "on its way out the message met the outer listener first.",
            "The innermost stands last in the list: `reversed(stack)`.",
            "way-out",
        )
    if [name for name, _ in back] == inside_out:
        raise Mistake(
            "on its way back the message met the innermost first.",
            "It comes from outside: the list forwards.",
            "way-back",
        )
    if out != inside_out or [name for name, _ in back] != outside_in:
        raise Mistake(
            f"out the message met {out}, and back {[name for name, _ in back]}.",
            "Everybody is asked once in each direction.",
            "not-everybody",
        )


# -- what a plate does to a distribution -----------------------------------------------------------


@exercise("rows", "fn", "size", "dim")
def _rows(answer: Answer) -> str:
    """The distribution with `size` rows at a dimension counted from the right."""
    cases = [
        (Normal(0.0, 1.0), 5, -1, (5,)),
        (Normal(torch.zeros(2, 1), 1.0), 6, -1, (2, 6)),
        (Normal(torch.zeros(3), 1.0), 4, -2, (4, 3)),
        (Gamma(2.0, 1.0), 3, -3, (3, 1, 1)),
        (Normal(torch.zeros(3), 1.0), 3, -1, (3,)),
    ]
    for fn, size, dim, wanted in cases:
        before = tuple(fn.batch_shape)
        found = answer(fn, size, dim)
        if found is None or found is ...:
            raise Mistake(
                "`rows` returned nothing.", "`fn.expand(shape)` is a new distribution.", "empty"
            )
        if not isinstance(found, Distribution):
            raise Mistake(
                f"`rows` returned {described(found)}, and a distribution is asked for.",
                "`fn.expand(shape)` is a new distribution.",
                "not-a-distribution",
            )
        shape = tuple(found.batch_shape)
        if shape == wanted:
            continue
        told = f"batch shape {before}, {size} rows at dim {dim}: {shape} came out, not {wanted}"
        if shape == (*before, size) and len(before):
            raise Mistake(
                f"{told}. The rows were put on the right.", "Count from the right.", "right"
            )
        if shape == (size, *before) and len(before):
            raise Mistake(
                f"{told}. The rows were put in front, whatever `dim` says.",
                "Fill up with ones on the left until the dimension is there, then set it.",
                "in-front",
            )
        raise Mistake(f"{told}.", "Fill up with ones on the left, then set one entry.", "shape")
    try:
        found = answer(Normal(torch.zeros(4), 1.0), 3, -1)
    except Mistake as stopped:
        if isinstance(stopped.error, (ValueError, RuntimeError)):
            return "the rows are where they belong, and what does not fit is refused."
        raise
    raise Mistake(
        f"a distribution of 4 rows in a plate of 3 came out with batch shape "
        f"{tuple(found.batch_shape)}, and nobody was told.",
        "Raise a `ValueError` where the dimension is neither 1 nor `size`.",
        "not-refused",
    )


# -- a gradient for draws that do not move ---------------------------------------------------------


@exercise("surrogate", "log_q", "value")
def _surrogate(answer: Answer) -> str:
    """A number whose gradient estimates that of E_q[value]."""
    for a, b in ((0.3, 1.7), (-1.2, 0.4)):
        theta = torch.tensor(a, requires_grad=True)
        other = torch.tensor(b, requires_grad=True)
        log_q = -0.5 * (2.0 - theta) ** 2
        value = 3.0 + other * theta**2
        found = answer(log_q, value)
        if found is None or found is ...:
            raise Mistake("`surrogate` returned nothing.", "Return an expression in both.", "empty")
        if not isinstance(found, Tensor) or found.dim() or not found.requires_grad:
            raise Mistake(
                f"`surrogate` returned {described(found)} that has no gradient.",
                "Return an expression in `log_q` and `value`.",
                "no-gradient",
            )
        grads = torch.autograd.grad(found, (theta, other), allow_unused=True)
        mine = [0.0 if g is None else g.item() for g in grads]
        v, score = 3.0 + b * a**2, 2.0 - a
        right = [score * v + 2 * a * b, a**2]
        known = [
            (
                [2 * a * b, a**2],
                "pathwise-only",
                "the score's term is missing: log_q has no say",
                "Add `log_q * value.detach()`.",
            ),
            (
                [score * v, 0.0],
                "score-only",
                "the value's own gradient is missing",
                "The value may depend on the parameters itself: add it, undetached.",
            ),
            (
                [score * v + 2 * a * b * (1 - 0.5 * score**2), a**2 * (1 - 0.5 * score**2)],
                "not-detached",
                "the value in front of log_q passes a gradient on",
                "There it is a plain factor: `value.detach()`.",
            ),
            (
                [-score * v + 2 * a * b, a**2],
                "sign",
                "the score's term has the wrong sign",
                "`value + log_q * value.detach()`.",
            ),
            (
                [score * v - 0.5 * score**2 * 2 * a * b, -0.5 * score**2 * a**2],
                "product",
                "the product alone, not detached",
                "`value + log_q * value.detach()`.",
            ),
        ]
        close = lambda x, y: all(abs(p - q) < 1e-4 * (1 + abs(q)) for p, q in zip(x, y))
        if close(mine, right):
            continue
        for grads_of_it, mistake, told, remedy in known:
            if close(mine, grads_of_it):
                raise Mistake(f"{told}.", remedy, mistake)
        raise Mistake(
            f"the gradients are {mine[0]:.2f} and {mine[1]:.2f}, and should be {right[0]:.2f} and "
            f"{right[1]:.2f}.",
            "The gradient of an average over q is that of the value, plus the value times the "
            "gradient of log q.",
            "wrong-value",
        )
    return "both ways in which a parameter can change an average are in the gradient."


# -- leaving in the right order --------------------------------------------------------------------


@exercise("leave", "stack", "handler")
def _leave(answer: Answer) -> str:
    """The stack without the topmost entry that is this handler."""
    a, b, c = object(), object(), object()
    cases = [
        ([a, b], b, [a]),
        ([a, b, c], b, [a, c]),
        ([a, b, a], a, [a, b]),
        ([a], b, [a]),
    ]
    names = {id(a): "a", id(b): "b", id(c): "c"}
    shown = lambda stack: "[" + ", ".join(names.get(id(x), "?") for x in stack) + "]"
    for stack, handler, wanted in cases:
        given = list(stack)
        returned = answer(given, handler)
        found = given if returned is None else returned
        if not isinstance(found, list):
            raise Mistake(
                f"`leave` returned {described(found)}.", "Return the list, or change it.", "kind"
            )
        if found == wanted:
            continue
        told = f"from {shown(stack)}, {names[id(handler)]} left, and {shown(found)} remained"
        if found == stack:
            raise Mistake(f"{told}.", "Take the handler out.", "empty")
        if found == stack[:-1]:
            raise Mistake(
                f"{told}: whatever stood on top was removed.",
                "Look for the handler: it need not be the last.",
                "top",
            )
        if len(found) == len(stack) - 1:
            raise Mistake(
                f"{told}: the lower one of two went.",
                "The block that ends is the innermost: search from the end of the list.",
                "lower",
            )
        if handler not in found and len(found) < len(stack) - 1:
            raise Mistake(
                f"{told}: every block of this handler ended at once.",
                "One block ends: remove one entry.",
                "all",
            )
        raise Mistake(f"{told}; it should be {shown(wanted)}.", "", "wrong-value")
    return "the block that ends takes its own entry along, and no other."
