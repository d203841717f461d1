"""The exercises of the chapter on building an engine: right answers, and the usual mistakes."""

import pytest
import torch
from pplwidgets.checks import check


def send(stack, msg, out=reversed, back=list, draw=True):
    for handler in out(stack):
        handler.outward(msg)
    if draw and msg["value"] is None:
        msg["value"] = msg["fn"].sample()
    for handler in back(stack):
        handler.inward(msg)
    return msg["value"]


def send_and_draw_anyway(stack, msg):
    send(stack, msg)
    msg["value"] = msg["fn"].sample()
    return msg["value"]


def send_and_draw_late(stack, msg):
    send(stack, msg, draw=False)
    if msg["value"] is None:
        msg["value"] = msg["fn"].sample()
    return msg["value"]


def send_out_only(stack, msg):
    return send(stack, msg, back=lambda stack: [])


def rows(fn, size, dim):
    shape = list(fn.batch_shape)
    shape = [1] * (-dim - len(shape)) + shape
    if shape[dim] not in (1, size):
        raise ValueError(f"{shape[dim]} rows in a plate of {size}")
    shape[dim] = size
    return fn.expand(shape)


def rows_never_refused(fn, size, dim):
    shape = [1] * (-dim - len(fn.batch_shape)) + list(fn.batch_shape)
    if shape[dim] == 1:
        shape[dim] = size
    return fn.expand(shape)


def rows_in_front(fn, size, dim):
    return fn.expand((size, *fn.batch_shape))


def surrogate(log_q, value):
    return value + log_q * value.detach()


def leave(stack, handler):
    for i in reversed(range(len(stack))):
        if stack[i] is handler:
            del stack[i]
            return


def leave_and_return(stack, handler):
    places = [i for i, other in enumerate(stack) if other is handler]
    return [x for i, x in enumerate(stack) if i != (places or [-1])[-1]]


def leave_the_first(stack, handler):
    if handler in stack:
        stack.remove(handler)


RIGHT = [
    ("send", send),
    ("rows", rows),
    ("surrogate", surrogate),
    ("surrogate", lambda q, v: v + v.detach() * (q - q.detach())),
    ("leave", leave),
    ("leave", leave_and_return),
]
WRONG = [
    ("send", "way-out", lambda s, m: send(s, m, out=list), "reversed(stack)"),
    ("send", "way-back", lambda s, m: send(s, m, back=reversed), "forwards"),
    ("send", "no-way-back", send_out_only, "inward(msg)"),
    ("send", "not-everybody", lambda s, m: send(s[:2], m), "Everybody"),
    ("send", "drawn-late", send_and_draw_late, "Draw before"),
    ("send", "not-drawn", send_and_draw_anyway, "2 times"),
    ("send", "no-return", lambda s, m: [send(s, m), None][1], "Return"),
    ("send", "empty", lambda s, m: None, "did nothing"),
    ("rows", "not-refused", rows_never_refused, "nobody was told"),
    ("rows", "in-front", rows_in_front, "in front"),
    ("rows", "not-a-distribution", lambda f, s, d: rows(f, s, d).sample(), "a Tensor"),
    ("rows", "empty", lambda f, s, d: None, "nothing"),
    ("surrogate", "pathwise-only", lambda q, v: v + 0 * q, "log_q has no say"),
    ("surrogate", "score-only", lambda q, v: q * v.detach() + 0 * v, "own gradient"),
    ("surrogate", "not-detached", lambda q, v: v + q * v, "detach()"),
    ("surrogate", "product", lambda q, v: q * v, "alone"),
    ("surrogate", "sign", lambda q, v: v - q * v.detach(), "sign"),
    ("surrogate", "wrong-value", lambda q, v: 2 * surrogate(q, v), "gradients are"),
    ("surrogate", "no-gradient", lambda q, v: (q + v).detach(), "no gradient"),
    ("surrogate", "empty", lambda q, v: None, "nothing"),
    ("leave", "top", lambda s, h: s.pop() and None, "on top"),
    ("leave", "lower", leave_the_first, "innermost"),
    ("leave", "all", lambda s, h: [x for x in s if x is not h], "at once"),
    ("leave", "empty", lambda s, h: None, "Take the handler out"),
    ("leave", "kind", lambda s, h: torch.zeros(1), "a Tensor"),
]


@pytest.mark.parametrize("exercise, answer", RIGHT)
def test_right_answers_about_an_engine_pass(exercise, answer):
    verdict = check(exercise, answer)
    assert verdict, verdict


@pytest.mark.parametrize("exercise, mistake, answer, phrase", WRONG)
def test_wrong_answers_about_an_engine_are_told_what_is_wrong(exercise, mistake, answer, phrase):
    verdict = check(exercise, answer)
    assert verdict.mistake == mistake, verdict
    assert phrase in repr(verdict)
