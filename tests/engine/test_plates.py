import pytest
import torch

import pplkit.distributions as dist
from pplkit import deterministic, handlers, param, plate, sample
from pplkit.errors import PlateError, ShapeError


def test_nested_plates_take_dimensions_from_the_right():
    with plate("a", 2):
        with plate("b", 3):
            x = sample("x", dist.Normal(0.0, 1.0))
            y = sample("y", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    assert x.shape == (3, 2) and y.shape == (3, 2, 4)


def test_a_chosen_dimension_is_kept_free_for_its_plate():
    with plate("a", 2, dim=-2), plate("b", 3):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (2, 3)


def test_a_single_row_is_still_a_row():
    with plate("one", 1):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (1,)


def test_plates_of_equal_size_are_two():
    with plate("a", 3):
        with plate("b", 3):
            x = sample("x", dist.Normal(torch.zeros(3), 1.0))
    assert x.shape == (3, 3)


def test_one_plate_twice_in_a_run():
    def model():
        rows = plate("data", 3)
        with rows:
            x = sample("x", dist.Normal(0.0, 1.0))
        with rows:
            y = sample("y", dist.Normal(x, 1.0))
        with plate("data", 3):
            return sample("z", dist.Normal(y, 1.0))

    assert handlers.trace(model).get_trace().nodes["z"].value.shape == (3,)


def test_a_plate_keeps_the_dimension_of_its_first_entry():
    rows, columns = plate("rows", 2), plate("columns", 3)
    with rows, columns:
        x = sample("x", dist.Normal(0.0, 1.0))
    with columns:  # rows stay where they are, so that y fits x
        y = sample("y", dist.Normal(0.0, 1.0))
    with rows, columns:
        z = sample("z", dist.Normal(x + y, 1.0))
    assert x.shape == z.shape == (3, 2) and y.shape == (3, 1)
    with plate("others", 4), pytest.raises(PlateError, match="collide at dim=-1"), rows:
        pass


def test_a_plate_as_decorator():
    @plate("data", 4)
    def model():
        return sample("x", dist.Normal(0.0, 1.0))

    assert model().shape == (4,)


def test_a_loop_over_a_plate():
    def model():
        return [sample(f"x_{i}", dist.Normal(0.0, 1.0)) for i in plate("data", 3)]

    tr = handlers.trace(model).get_trace()
    assert tr.stochastic_nodes == ["x_0", "x_1", "x_2"]
    assert [tr.nodes[f"x_{i}"].plates[0].counter for i in range(3)] == [0, 1, 2]
    assert all(tr.nodes[f"x_{i}"].value.shape == () for i in range(3))


def test_a_loop_that_is_left_early_leaves_nothing():
    for _ in plate("data", 3):
        break
    assert sample("x", dist.Normal(0.0, 1.0)).shape == ()


@pytest.mark.parametrize("looped", [False, True])
def test_a_subsample_is_scaled_to_the_whole(looped):
    data = torch.arange(10.0)

    def model():
        z = sample("z", dist.Normal(0.0, 1.0))
        rows = plate("data", 10, subsample_size=4)
        if looped:
            for i in rows:
                sample(f"x_{i}", dist.Normal(z, 1.0), obs=data[i])
        else:
            with rows as i:
                sample("x", dist.Normal(z, 1.0), obs=data[i])

    tr = handlers.trace(model).get_trace()
    rows = tr.nodes["data"].value
    assert rows.shape == (4,) and len(set(rows.tolist())) == 4
    expected = 2.5 * torch.distributions.Normal(tr.nodes["z"].value, 1.0).log_prob(data[rows]).sum()
    observed = tr.log_prob_sum(lambda name, site: site.is_observed)
    torch.testing.assert_close(observed, expected)


def test_subsample_estimates_are_unbiased():
    data = torch.linspace(-1, 2, 6)

    def model():
        with plate("data", 6, subsample_size=2) as i:
            sample("x", dist.Normal(0.0, 1.0), obs=data[i])

    with handlers.seed(rng_seed=0):
        draws = torch.stack([handlers.trace(model).get_trace().log_prob_sum() for _ in range(4000)])
    whole = torch.distributions.Normal(0.0, 1.0).log_prob(data).sum()
    assert abs(draws.mean() - whole) < 4 * draws.std() / 4000**0.5


def test_nested_subsamples_multiply_their_scales():
    def model():
        with plate("a", 6, subsample_size=3), plate("b", 10, subsample_size=2):
            sample("x", dist.Normal(0.0, 1.0))

    site = handlers.trace(model).get_trace().nodes["x"]
    assert site.value.shape == (2, 3) and site.scale == 10.0


def test_a_plate_has_one_set_of_rows_in_a_run_that_no_trace_sees():
    rows = plate("rows", 9, subsample_size=4)

    def model():
        looped = [(i, param("loc", torch.arange(9.0))[rows.indices].tolist()) for i in rows]
        assert all(part == [float(i) for i, _ in looped] for _, part in looped)
        with rows as i:
            return [i for i, _ in looped], i.tolist()

    runs = [handlers.trace(handlers.block(model))() for _ in range(4)]
    assert all(looped == entered for looped, entered in runs)
    assert len({tuple(looped) for looped, _ in runs}) > 1  # a new run draws anew


def test_a_lifted_parameter_in_a_subsample_is_scaled():
    def model():
        with plate("data", 6, subsample_size=2):
            param("loc", torch.tensor(1.0))

    tr = handlers.trace(handlers.lift(model, prior=dist.Normal(0.0, 1.0))).get_trace()
    site = tr.nodes["loc"]
    torch.testing.assert_close(site.log_prob, 3 * dist.Normal(0.0, 1.0).log_prob(site.value))


def test_given_rows():
    with plate("data", 10, subsample=torch.tensor([2, 5])) as i:
        assert i.tolist() == [2, 5]
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (2,)


def test_the_model_sees_the_rows_of_the_guide():
    shared = plate("shared", 100, subsample_size=5)

    def program():
        with shared as i, plate("own", 50, subsample_size=3, dim=-2) as j:
            sample("x", dist.Normal(0.0, 1.0))
            return i, j

    guide_trace = handlers.trace(program).get_trace()
    i, j = handlers.replay(program, trace=guide_trace)()
    assert i.tolist() == guide_trace.nodes["shared"].value.tolist()
    assert j.tolist() == guide_trace.nodes["own"].value.tolist()
    later = handlers.trace(program).get_trace()
    assert later.nodes["shared"].value.tolist() != i.tolist()


def test_a_subsample_stays_the_same_where_a_plate_is_entered_again():
    rows = plate("data", 100, subsample_size=5)
    with rows as first:
        pass
    with rows as second:
        pass
    assert first.tolist() == second.tolist()


def test_a_data_set_smaller_than_its_plate_broadcasts_only_from_one():
    with plate("data", 3):
        assert sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0)).shape == ()
        with pytest.raises(ShapeError, match=r"(?s)plate\('data'\) at site 'y'.*3 rows.*value 2"):
            sample("y", dist.Normal(0.0, 1.0), obs=torch.zeros(2))


def test_deterministic_and_param_know_their_plates():
    def model():
        with plate("data", 3):
            deterministic("d", torch.zeros(3))
            param("p", torch.zeros(3))

    tr = handlers.trace(model).get_trace()
    assert [f.name for f in tr.nodes["d"].plates] == ["data"]
    assert [f.name for f in tr.nodes["p"].plates] == ["data"]


@pytest.mark.parametrize("size", [0, -1, 2.5, "three", True, None, torch.tensor(1.5)])
def test_impossible_sizes(size):
    with pytest.raises(PlateError, match="plate 'data': Expected size > 0 but got"):
        plate("data", size)


def test_sizes_of_other_integer_kinds():
    import numpy as np

    for size in (np.int64(2), torch.tensor(2)):
        with plate("data", size):
            assert sample("x", dist.Normal(0.0, 1.0)).shape == (2,)


def test_a_dimension_already_taken():
    with plate("a", 2, dim=-1):
        with pytest.raises(PlateError, match=r"(?s)collide at dim=-1.*'a'.*'b'.*leave dim= out"):
            with plate("b", 3, dim=-1):
                pass
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (2,)


@pytest.mark.parametrize("dim", [0, 1, -1.0, "left"])
def test_dimensions_count_from_the_right(dim):
    with pytest.raises(PlateError, match="plate 'a': Expected dim < 0"):
        plate("a", 2, dim=dim)


def test_a_plate_inside_itself():
    with plate("a", 2), pytest.raises(PlateError, match="'a' is entered inside itself"):
        with plate("a", 2):
            pass


def test_one_name_two_sizes():
    def model():
        with plate("a", 2):
            pass
        with plate("a", 3):
            pass

    with pytest.raises(PlateError, match="(?s)plate 'a' has two sizes.*size 3 here, 2 at"):
        handlers.trace(model).get_trace()


def test_subsamples_that_cannot_be():
    with pytest.raises(PlateError, match="plate 'a': the subsample is larger"):
        plate("a", 3, subsample_size=4)
    with pytest.raises(PlateError, match="subsample_size=3"):
        plate("a", 9, subsample_size=3, subsample=[1, 2])


def test_a_distribution_already_batched():
    with plate("a", 2), pytest.raises(ShapeError, match=r"(?s)'a'.* at site 'x'.*\.to_event\(1\)"):
        sample("x", dist.Normal(torch.zeros(3), 1.0))


def test_forgot_to_index_the_subsample():
    with plate("a", 8, subsample_size=2), pytest.raises(ShapeError, match=r"data\[i\]"):
        sample("x", dist.Normal(0.0, 1.0), obs=torch.zeros(8))
