"""Wrong numbers: told with site, place, what was found, what was expected."""

import subprocess
import sys
import warnings

import pytest
import torch

import pplkit.distributions as dist
from pplkit import enable_validation, errors, handlers, plate, sample, validation_enabled


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda: dist.Normal(0.0, -1.0), "scale = -1.*scale greater than 0"),
        (lambda: dist.Normal(0.0, torch.tensor([1.0, -3.0])), r"scale = -3 at \[1\], 1 of 2"),
        (lambda: dist.Normal(float("nan"), 1.0), "loc = nan"),
        (lambda: dist.Normal(torch.zeros(2), -1.0).to_event(1), "scale"),
        (lambda: dist.LogNormal(0.0, 0.0), "scale = 0"),
        (lambda: dist.Bernoulli(1.5), "probs = 1.5.*between 0 and 1"),
        (lambda: dist.Gamma(-1.0, 1.0), "concentration = -1"),
        (lambda: dist.Beta(1.0, -2.0), "concentration"),
        (lambda: dist.Uniform(2.0, 1.0), "high|low"),
        (lambda: dist.Categorical(torch.tensor([0.5, -0.5, 1.0])), "probs"),
    ],
)
@pytest.mark.parametrize("how", ["drawn", "observed", "in a plate", "directly"])
def test_bad_parameters_name_the_site(fn, words, how):
    with pytest.raises(errors.DistributionError, match=f"(?s){words}") as caught:
        if how == "drawn":
            sample("x", fn())
        elif how == "observed":
            sample("x", fn(), obs=torch.ones(fn().event_shape))
        elif how == "in a plate":
            with plate("rows", 2):
                sample("x", fn())
        else:
            fn().log_prob(torch.ones(2))
    assert caught.value.where.filename == __file__
    if how != "directly":
        assert caught.value.site == "x" and "'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("fn", "obs", "words"),
    [
        (
            dist.Bernoulli(0.5),
            torch.tensor([0.0, 2.0]),
            r"observed value 2 at \[1\], 1 of 2.*0 or 1",
        ),
        (dist.Uniform(0.0, 1.0), torch.tensor(1.5), "between 0 and 1"),
        (dist.LogNormal(0.0, 1.0), torch.tensor(-1.0), "greater than 0"),
        (dist.Beta(1.0, 1.0), torch.tensor(1.5), "between 0 and 1"),
        (dist.Gamma(1.0, 1.0), torch.tensor(-1.0), "0 or greater|greater than 0"),
        (dist.Categorical(torch.ones(3)), torch.tensor(3), "whole number between 0 and 2"),
        (dist.Normal(0.0, 1.0), torch.tensor(float("nan")), "not NaN"),
    ],
)
def test_observations_outside_the_support(fn, obs, words):
    with pytest.raises(errors.DistributionError, match=f"(?s)site 'y' to be within.*{words}"):
        sample("y", fn, obs=obs)


@pytest.mark.parametrize("obs", [1, 1.0, True, [1, 0], (0.0, 1.0), torch.tensor([1, 0]).numpy()])
def test_plain_numbers_are_data(obs):
    def model():
        sample(
            "y",
            dist.Bernoulli(0.25).expand([2]).to_event(1),
            obs=[obs, obs] if isinstance(obs, (int, float)) else obs,
        )

    assert torch.isfinite(handlers.trace(model).get_trace().log_prob_sum())


@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(torch.zeros(3, 2), 1.0),
        dist.Categorical(torch.ones(3, 2, 4)),
        dist.Normal(torch.zeros(3, 2, 5), 1.0).to_event(1),
        dist.Normal(torch.zeros(3, 2), 1.0).mask(False),
        dist.ExpandedDistribution(dist.Normal(torch.zeros(1, 2), 1.0), (3, 2)),
        dist.ImproperUniform(dist.constraints.positive, (3, 2), ()),
        dist.Wishart(torch.full((3, 2), 4.0), torch.eye(2)),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_expanding_to_what_it_is_not(fn, shape):
    with pytest.raises(errors.ShapeError, match=r"Cannot broadcast distribution of shape \(3, 2\)"):
        fn.expand(shape)
    assert fn.expand((5, 3, 2)).batch_shape == (5, 3, 2)


def test_an_obs_mask_of_a_wrong_shape():
    with plate("rows", 3), pytest.raises(errors.ShapeError, match="Invalid obs_mask shape.*'x'"):
        obs_mask = torch.tensor([True, False])
        sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(3), obs_mask=obs_mask)


def test_torchs_own_distributions_are_taken_as_they_are():
    def model():
        with plate("rows", 2):
            return sample("x", torch.distributions.Normal(0.0, 1.0))

    tr = handlers.trace(handlers.seed(model, rng_seed=0)).get_trace()
    assert type(tr.nodes["x"].fn) is dist.Normal and tr.nodes["x"].value.shape == (2,)
    with pytest.raises(errors.DistributionError, match="site 'x'"):
        sample("x", torch.distributions.Normal(0.0, -1.0, validate_args=False))


def test_validation_can_be_switched_off_and_on():
    with validation_enabled(False):
        assert sample("y", dist.Bernoulli(0.5), obs=torch.tensor(2.0)) == 2.0
    enable_validation(True)
    with pytest.raises(errors.DistributionError):
        sample("y", dist.Bernoulli(0.5), obs=torch.tensor(2.0))


def test_torchs_own_switch_does_not_matter():
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with pytest.raises(errors.DistributionError, match="'x'"):
            sample("x", dist.Normal(0.0, -1.0))
    finally:
        torch.distributions.Distribution.set_default_validate_args(before)


def test_errors_are_the_built_in_kinds_too():
    assert issubclass(errors.DistributionError, ValueError)
    assert issubclass(errors.ModelError, RuntimeError)
    assert issubclass(errors.UsageError, TypeError)


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
from ipykernel.compiler import XCachingCompiler
shell.compile = XCachingCompiler()
shell.run_cell("import pplkit, pplkit.distributions as dist", store_history=True)
"""


def test_in_a_notebook_the_place_is_a_cell():
    script = (
        NOTEBOOK
        + """
result = shell.run_cell("x = 1\\npplkit.sample('x', dist.Normal(0., -1.))", store_history=True)
print(str(result.error_in_exec.where))
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "Cell In [2], line 2"


def warned(where=None):
    errors.warn(errors.PplkitWarning("odd, but legal", site="x", where=where, remedy="look"))


def test_a_warning_is_told_as_an_error_is_at_the_users_line():
    with pytest.warns(errors.PplkitWarning) as caught:
        warned()
        warned(errors.Where("elsewhere.py", 7))
    first, second = caught.list
    assert str(first.message) == "odd, but legal\n  remedy:   look"
    assert (first.filename, first.lineno) == (__file__, warned.__code__.co_firstlineno + 1)
    assert (second.filename, second.lineno) == ("elsewhere.py", 7)
    assert str(second.message) == (
        "odd, but legal\n  where:    elsewhere.py, line 7\n  remedy:   look"
    )
    assert second.message.site == "x"


def test_a_warning_is_shown_once_for_its_place_and_obeys_pythons_filters():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            warned()
        assert len(shown) == 1
        warnings.simplefilter("ignore", errors.PplkitWarning)
        warned(errors.Where("elsewhere.py", 8))
        assert len(shown) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(errors.PplkitWarning, match="odd, but legal"):
            warned()


def test_in_a_notebook_a_warning_shows_no_path():
    script = NOTEBOOK + (
        """shell.run_cell("from pplkit import errors\\n"
    "errors.warn(errors.PplkitWarning('odd', where=errors.user_frame()))", store_history=True)"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr == "Cell In [2]:2: PplkitWarning: odd\n  where:    Cell In [2], line 2\n"


def test_a_warning_in_a_loop_is_shown_once_whoever_meddles_with_filters():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            warned()
            with warnings.catch_warnings():  # as torch does
                warnings.simplefilter("ignore")
                warned()
        assert len(shown) == 1
        warnings.simplefilter("always")
        warned()
        assert len(shown) == 2
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        warned()
        assert len(shown) == 1
