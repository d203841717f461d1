"""Runs of SVI on devices that steps are recorded on: the step as a package, played from recordings.
On a CPU the package is the CPU's own and recordings are the steps themselves; all else is the same.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pplkit
import pplkit.distributions as dist
from pplkit import errors, handlers, optim, param, plate, sample
from pplkit.capture import native
from pplkit.infer import SVI, Trace_ELBO, compiled, race
from tests.capture.test_native import agree, compilations

WAITS = torch.ops.aten._local_scalar_dense.default


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    monkeypatch.setattr(compiled, "_is_recorded_on", lambda device: True)
    race.forget()
    yield
    race.forget()
    native._LIBRARIES.clear()


def model(data, many, prior=1.0):
    """A number, a whole number and a constant that lies elsewhere; two kinds of noise."""
    z = sample("z", dist.Normal(torch.tensor(0.0), prior))
    with plate("points", len(data), subsample_size=many) as rows:
        sample("obs", dist.Normal(z, 0.5), obs=data[rows])


def guide(data, many, prior=1.0):
    loc = param("loc", lambda: torch.full((), 0.3, device=data.device))
    scale = param("scale", lambda: torch.full((), 0.8, device=data.device))
    sample("z", dist.Normal(loc, scale))


def run(steps, *args, compile, adam=None):
    adam = adam or optim.Adam({"lr": 0.01})
    with handlers.seed(rng_seed=0):
        svi = SVI(model, guide, adam, Trace_ELBO(), params=pplkit.ParamStore())
        return svi, svi.run(steps, *args, compile=compile, progress_bar=False)


def decaying():
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.99}
    return optim.ExponentialLR(settings)


class Waits(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is WAITS
        return func(*args, **(kwargs or {}))


@pytest.mark.long
@pytest.mark.filterwarnings("error::pplkit.errors.PplkitWarning")
def test_a_recorded_run_is_the_run_in_python(device, monkeypatch):
    data = torch.randn(37, device=device) + 1.0
    count, (_, ours) = compilations(lambda: run(300, data, 9, 1.0, compile=True))
    assert count == 1
    agree(ours, run(300, data, 9, 1.0, compile=False)[1], rtol=1e-3)

    def others():
        for args in ((data[:3], 2, 1.0), (data.repeat(3), 50, 3.0)):
            found, expected = (run(80, *args, compile=way)[1] for way in (True, False))
            agree(found, expected, rtol=1e-3)
        race.forget()
        native._LIBRARIES.clear()  # as a new process: from disk
        given = 80, data, 9, 1.0
        agree(run(*given, compile=True)[1], run(*given, compile=False)[1], rtol=1e-3)

    assert compilations(others)[0] == 0

    played, seen = native.Played.run, []

    def counted(self, steps, *given):
        with Waits() as waits:
            taken = played(self, steps, *given)
        seen.append((steps, waits.count))
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(native.Played, "run", counted)
        run(1500, data, 9, 1.0, compile=True)
    assert all(waits <= 1 for _, waits in seen) and max(steps for steps, _ in seen) > 32

    bad = data.clone()
    bad[11] = torch.nan
    told = []
    for compile in (True, False):
        with pytest.raises(errors.PplkitError, match="observed value nan at") as fault:
            run(200, bad, 9, 1.0, compile=compile)
        told.append(str(fault.value))
    assert told[0] == told[1]


@pytest.mark.long
@pytest.mark.filterwarnings("error::pplkit.errors.PplkitWarning")
def test_schedules_are_rows_too(device):
    data = torch.randn(37, device=device) + 1.0
    (first, ours), (other, theirs) = (
        run(200, data, 9, 1.0, compile=compile, adam=decaying()) for compile in (True, False)
    )
    agree(ours, theirs, rtol=1e-3)
    assert first.optim.options("loc")["lr"] == pytest.approx(other.optim.options("loc")["lr"])


def test_tensors_on_two_devices_run_in_python():
    meta, cpu = torch.empty(3, device="meta"), torch.zeros(3)
    with pytest.raises(native.NotCompiled, match="cpu and meta"):
        compiled._home([cpu], [meta])
    assert compiled._home([cpu], [torch.empty((), device="meta")]) == torch.device("cpu")
