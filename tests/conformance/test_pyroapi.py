"""pyro-api's own tests, with `pplkit` as the backend.

The package ships tests that any backend with Pyro's interface must pass, and asks for a fixture
`backend` that puts one in charge. Its example models live in `pyroapi.testing`, which reads the
backend while it is imported.
"""

import importlib

import pytest
import torch
from pyroapi import handlers, infer, pyro, pyro_backend, register_backend
from pyroapi.tests import *  # its test functions, collected here

import pplkit
from pplkit.effects import active_handlers

register_backend(
    "pplkit",
    {
        "distributions": "pplkit.distributions",
        "handlers": "pplkit.handlers",
        "infer": "pplkit.infer",
        "ops": "torch",
        "optim": "pplkit.optim",
        "pyro": "pplkit",
    },
)

MODELS = ("logistic_regression", "neals_funnel", "eight_schools", "beta_binomial")


@pytest.fixture
def backend():
    pplkit.clear_param_store()
    with pyro_backend("pplkit"):
        yield
    assert active_handlers() == []


@pytest.fixture
def example(backend, request):
    """A model of `pyroapi.testing`, its arguments and its data."""
    models = importlib.import_module("pyroapi.testing").MODELS
    assert tuple(models) == MODELS
    built = models[request.param]()
    return built["model"], built.get("model_args", ()), built.get("model_kwargs", {})


def test_the_package_tests_are_all_here():
    from pyroapi.tests import test_svi

    shipped = {name for name in vars(test_svi) if name.startswith("test_")}
    assert len(shipped) == 9 and shipped <= set(globals())


def test_the_backend_in_charge_is_ours(backend):
    assert pyro.sample is pplkit.sample
    assert infer.SVI is pplkit.infer.SVI


def test_what_there_is_not_is_said(backend):
    with pytest.raises(NotImplementedError):
        pyro.nonexistent_primitive  # noqa: B018


@pytest.mark.parametrize("example", MODELS, indirect=True)
def test_its_models_run(example):
    model, args, kwargs = example
    with handlers.seed(rng_seed=2):
        model(*args, **kwargs)


@pytest.mark.parametrize("example", MODELS, indirect=True)
def test_its_models_can_be_traced(example):
    model, args, kwargs = example
    with handlers.seed(rng_seed=2):
        tr = handlers.trace(model).get_trace(*args, **kwargs)
    assert torch.isfinite(tr.log_prob_sum())
