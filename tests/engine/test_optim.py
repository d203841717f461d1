"""Optimisers: torch's own, or Pyro's, step for step."""

import pickle

import pyro.optim
import pyro.optim.clipped_adam
import pytest
import torch

import pplkit
from pplkit import errors, optim, param

STEPS = 50


def gradients():
    generator = torch.Generator().manual_seed(1)
    return 3.0 * torch.randn(STEPS, 2, 3, generator=generator, dtype=torch.float64)


def start():
    return torch.tensor([[0.5, -1.0, 2.0], [0.0, 3.0, -0.1]], dtype=torch.float64)


def path_of_torch(cls, settings):
    x = start().requires_grad_()
    optimiser = cls([x], **settings)
    for grad in gradients():
        x.grad = grad.clone()
        optimiser.step()
    return x.detach()


def path_of(optimiser, grads=None):
    x = start()
    for grad in gradients() if grads is None else grads:
        optimiser.move({"x": x}, {"x": grad})
    return x


OURS = [
    (optim.Adam, torch.optim.Adam, {"lr": 0.03}),
    (optim.Adam, torch.optim.Adam, {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.Adam, torch.optim.Adam, {"lr": 0.1, "amsgrad": True}),
    (optim.AdamW, torch.optim.AdamW, {"lr": 0.03}),
    (optim.AdamW, torch.optim.AdamW, {"lr": 0.03, "weight_decay": 0.3, "amsgrad": True}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.03}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.03, "momentum": 0.9, "dampening": 0.2}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    (optim.SGD, torch.optim.SGD, {"lr": 0.03, "weight_decay": 0.1}),
    (optim.RMSprop, torch.optim.RMSprop, {"lr": 0.03}),
    (optim.RMSprop, torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (optim.RMSprop, torch.optim.RMSprop, {"alpha": 0.8, "weight_decay": 0.1}),
    (optim.Adagrad, torch.optim.Adagrad, {"lr": 0.3}),
    (
        optim.Adagrad,
        torch.optim.Adagrad,
        {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2},
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "settings"), OURS)
def test_steps_are_torchs(ours, theirs, settings):
    expected = path_of_torch(theirs, settings)
    torch.testing.assert_close(path_of(ours(settings)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("ours", "theirs", "settings"), OURS)
def test_the_pure_step_is_the_step(ours, theirs, settings):
    optimiser, x = ours(settings), start()
    state = optimiser.init(x)
    for grad in gradients():
        x, state = optimiser.update(x, grad, state, **optimiser.options("x"))
    torch.testing.assert_close(x, path_of(ours(settings)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.05},
        {"lr": 0.05, "clip_norm": 0.5, "lrd": 0.97, "weight_decay": 0.1},
        {"lr": 0.05, "betas": (0.7, 0.9), "centered_variance": True},
    ],
)
def test_clipped_adam_is_pyros(settings):
    expected = path_of_torch(pyro.optim.clipped_adam.ClippedAdam, settings)
    actual = path_of(optim.ClippedAdam(settings))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD"])
def test_any_class_of_torch(name):
    expected = path_of_torch(getattr(torch.optim, name), {"lr": 0.02})
    assert torch.equal(path_of(getattr(optim, name)({"lr": 0.02})), expected)
    assert torch.equal(path_of(optim.PyroOptim(getattr(torch.optim, name), {"lr": 0.02})), expected)


def test_parameters_of_many_shapes_move_alike_together_and_alone():
    """Also in views, of two types, and with gradients that are expanded."""
    together, alone = optim.Adam({"lr": 0.1}), [optim.Adam({"lr": 0.1}) for _ in range(4)]

    def leaves():
        base = torch.zeros(3, 2)
        return {"a": torch.zeros(()), "b": base.mT, "c": torch.zeros(4).double(), "d": base[:, 0]}

    one, two = leaves(), leaves()
    for step in range(1, 20):
        grads = {
            "a": torch.tensor(float(step)),
            "b": torch.tensor(-1.0).expand(2, 3),
            "c": torch.ones(4).double() / step,
        }
        together.move(one, grads)
        for optimiser, name in zip(alone, grads, strict=False):
            optimiser.move(two, {name: grads[name]})
    for name in one:
        assert torch.equal(one[name], two[name])
    assert (one["b"] > 0).all() and (one["a"] < 0).all()


@pytest.mark.parametrize("make", [o for o, _, _ in OURS] + [optim.ClippedAdam])
def test_a_step_that_is_not_ok_changes_nothing(make):
    plain, guarded, grads = make({"lr": 0.1}), make({"lr": 0.1}), gradients()
    x, y = start(), start()
    for i, grad in enumerate(grads):
        plain.move({"x": x}, {"x": grad})
        guarded.move({"x": y}, {"x": grad}, torch.tensor(True))
        if i == 3:
            broken = torch.full_like(grad, torch.nan)
            guarded.move({"x": y}, {"x": broken}, torch.tensor(False))
    torch.testing.assert_close(x, y, rtol=0.0, atol=0.0)


def test_clipping():
    grads = gradients()
    x = path_of(optim.SGD({"lr": 0.1}, {"clip_norm": 0.5, "clip_value": 0.2}), grads)
    y = start().requires_grad_()
    optimiser = torch.optim.SGD([y], lr=0.1)
    for grad in grads:
        y.grad = grad.clone()
        torch.nn.utils.clip_grad_norm_([y], 0.5)
        torch.nn.utils.clip_grad_value_([y], 0.2)
        optimiser.step()
    torch.testing.assert_close(x, y.detach())
    by_name = optim.SGD({"lr": 0.1}, lambda name: {"clip_value": {"x": 0.1, "y": 1.0}[name]})
    leaves = {"x": torch.zeros(()), "y": torch.zeros(())}
    by_name.move(leaves, {"x": torch.tensor(5.0), "y": torch.tensor(5.0)})
    torch.testing.assert_close(torch.stack(list(leaves.values())), torch.tensor([-0.01, -0.1]))


SCHEDULES = [
    ("ExponentialLR", {"gamma": 0.9}),
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.1}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 60}),
]


@pytest.mark.parametrize(("name", "settings"), SCHEDULES)
@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam])
def test_schedules_are_torchs(name, settings, cls):
    args = {"lr": 0.1, "momentum": 0.9} if cls is torch.optim.SGD else {"lr": 0.1}
    x, y = start(), start().requires_grad_()
    theirs = cls([y], **args)
    their_schedule = getattr(torch.optim.lr_scheduler, name)(theirs, **settings)
    ours = getattr(optim, name)({"optimizer": cls, "optim_args": args, **settings})
    for grad in gradients():
        y.grad = grad.clone()
        theirs.step()
        their_schedule.step()
        ours.move({"x": x}, {"x": grad})
        ours.step()
    torch.testing.assert_close(x, y.detach(), rtol=1e-9, atol=1e-9)


def test_a_schedule_that_watches_the_loss():
    settings = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "patience": 1}
    scheduler = optim.ReduceLROnPlateau({**settings, "factor": 0.5})
    assert scheduler.options("x")["lr"] == 1.0
    for loss in (1.0, 1.0, 1.0):
        scheduler.step(loss)
    assert scheduler.options("x")["lr"] == 0.5


def test_a_schedule_by_parameter():
    scheduler = optim.ExponentialLR(
        {
            "optimizer": optim.Adam,
            "optim_args": lambda name: {"lr": 1.0 if name == "x" else 0.1},
            "gamma": 0.5,
        }
    )
    scheduler.move({"x": torch.zeros(()), "y": torch.zeros(())}, {"x": torch.ones(())})
    scheduler.options("y")
    scheduler.step()
    assert scheduler.options("x")["lr"] == 0.5 and scheduler.options("y")["lr"] == 0.05


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.Adam({"lr": 0.1}),
        lambda: optim.Adam({"lr": 0.1, "amsgrad": True}),
        lambda: optim.ClippedAdam({"lr": 0.1, "lrd": 0.9}),
        lambda: optim.SGD({"lr": 0.1, "momentum": 0.9}),
        lambda: optim.PyroOptim(torch.optim.NAdam, {"lr": 0.1}),
        lambda: optim.StepLR(
            {
                "optimizer": torch.optim.Adam,
                "optim_args": {"lr": 0.1},
                "step_size": 10,
                "gamma": 0.3,
            }
        ),
    ],
)
def test_saved_and_loaded_it_goes_on(make, tmp_path):
    grads = gradients()

    def moved(optimiser, x, grads):
        for grad in grads:
            optimiser.move({"x": x}, {"x": grad})
            optimiser.advance(torch.tensor(1.0))
        return x

    whole, first, second = make(), make(), make()
    expected = moved(whole, start(), grads)
    half = moved(first, start(), grads[:25])
    first.save(tmp_path / "optimiser state.pt")
    second.load(tmp_path / "optimiser state.pt")
    assert torch.equal(moved(second, half.clone(), grads[25:]), expected)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize("content", [b"", b"not a file of torch's", pickle.dumps(Malicious(), 2)])
def test_a_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "state.pt").write_bytes(content)
    adam = optim.Adam({"lr": 0.1})
    with pytest.raises(errors.UsageError, match="does not hold an optimiser's state"):
        adam.load(tmp_path / "state.pt")
    torch.save(Malicious(), tmp_path / "state.pt")
    with pytest.raises(errors.UsageError, match="does not hold an optimiser's state"):
        adam.load(tmp_path / "state.pt")
    with pytest.raises(FileNotFoundError):
        adam.load(tmp_path / "missing.pt")


def test_state_of_another_shape_is_refused():
    first, second = optim.Adam({"lr": 0.1}), optim.Adam({"lr": 0.1})
    first.move({"x": torch.zeros(2)}, {"x": torch.ones(2)})
    second.set_state(first.get_state())
    with pytest.raises(errors.UsageError, match=r"(?s)parameter 'x' is of another shape.*\(3,\)"):
        second.move({"x": torch.zeros(3)}, {"x": torch.ones(3)})


def test_a_parameter_made_anew_has_no_past():
    adam = optim.Adam({"lr": 0.1})
    for shape in ((), (3,), ()):
        pplkit.clear_param_store()
        param("x", torch.zeros(shape))
        leaf = pplkit.get_param_store().unconstrained("x")
        adam.move({"x": leaf}, {"x": torch.full(shape, -7.0)})
        torch.testing.assert_close(leaf.detach(), torch.full(shape, 0.1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: optim.Adam({"learning_rate": 0.1}), "Adam has no setting 'learning_rate'"),
        (lambda: optim.Adam({"lr": -0.1}), "learning rate"),
        (lambda: optim.Adam({"lr": float("nan")}), "learning rate"),
        (lambda: optim.Adam(0.1), "settings in a dictionary"),
        (lambda: optim.Adam({}, {"clip": 1.0}), "clip_args has no setting 'clip'"),
        (lambda: optim.PyroOptim(torch.optim.Adamax, {"rate": 0.1}), "Adamax cannot use these"),
        (lambda: optim.PyroOptim(torch.optim.LBFGS, {}), "needs no closure"),
        (lambda: optim.PyroOptim("Adam", {}), "PyroOptim cannot use this optim_constructor"),
        (lambda: optim.StepLR({"lr": 0.1}), "StepLR needs an optimiser and its settings"),
        (
            lambda: optim.StepLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}}),
            "StepLR cannot use these settings",
        ),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(errors.UsageError, match=message):
        build()


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Adamm'"):
        optim.Adamm  # noqa: B018
