import pytest
import torch

from pplkit import ParamStore, clear_param_store, errors, get_param_store, module, param
from pplkit.distributions import constraints


def test_made_once_then_read():
    first = param("p", torch.tensor(1.0))
    get_param_store()["p"] = torch.tensor(2.0)
    assert first == 1.0 and param("p", torch.tensor(1.0)) == 2.0 and param("p") == 2.0


@pytest.mark.parametrize(
    ("constraint", "value"),
    [
        (constraints.positive, torch.tensor([0.5, 3.0])),
        (constraints.unit_interval, torch.tensor([0.1, 0.9])),
        (constraints.simplex, torch.tensor([0.2, 0.3, 0.5])),
        (constraints.interval(-1.0, 4.0), torch.tensor(0.0)),
        (constraints.lower_cholesky, torch.tensor([[1.0, 0.0], [0.5, 2.0]])),
    ],
)
def test_constrained_outside_unconstrained_inside(constraint, value):
    torch.testing.assert_close(param("p", value, constraint=constraint), value)
    leaf = get_param_store().unconstrained("p")
    assert param("p").unconstrained() is leaf
    assert leaf.is_leaf and leaf.requires_grad
    with torch.no_grad():
        leaf.add_(3.0)
    assert bool(constraint.check(param("p")).all())


def test_a_function_as_first_value_is_called_once():
    calls = []

    def start():
        calls.append(1)
        return torch.tensor(1.0)

    param("p", start), param("p", start)
    assert calls == [1]


def test_stale_values_are_not_used_in_silence():
    param("p", torch.zeros(2))
    with pytest.raises(errors.ParamError, match="(?s)'p' is left over.*shape.*clear_param_store"):
        param("p", torch.zeros(3))
    with pytest.raises(errors.ParamError, match="(?s)'p' is left over.*constraint"):
        param("p", torch.ones(2), constraint=constraints.positive)
    clear_param_store()
    assert param("p", torch.zeros(3)).shape == (3,)


def test_wrong_first_values():
    with pytest.raises(errors.ParamError, match="(?s)'p' has no value yet"):
        param("p")
    with pytest.raises(errors.ParamError, match="(?s)'p' starts outside.*greater than 0"):
        param("p", torch.tensor(-1.0), constraint=constraints.positive)
    with pytest.raises(errors.ParamError, match="(?s)'p' is made of torch.int64"):
        param("p", torch.tensor(1))
    assert len(get_param_store()) == 0


def test_weights_are_a_start_for_a_simplex():
    p = param("p", torch.tensor([1.0, 3.0]), constraint=constraints.simplex)
    torch.testing.assert_close(p, torch.tensor([0.25, 0.75]))
    with pytest.raises(errors.ParamError, match="(?s)'q' starts outside.*sum 1"):
        param("q", torch.tensor([-1.0, 2.0]), constraint=constraints.simplex)


def test_a_missing_name_gets_a_hint():
    param("scale", torch.tensor(1.0))
    with pytest.raises(KeyError, match="did you mean 'scale'"):
        get_param_store()["scael"]


def test_a_store_of_ones_own():
    param("p", torch.tensor(1.0))
    with ParamStore() as store:
        assert param("p", torch.tensor(2.0)) == 2.0
        with ParamStore():
            assert param("p", torch.tensor(3.0)) == 3.0
        assert param("p") == 2.0
    assert param("p") == 1.0 and store["p"] == 2.0


def test_dictionary_ways():
    store = get_param_store()
    store["a"] = torch.tensor([1.0])
    assert list(store) == ["a"] and "a" in store and len(store) == 1
    assert store.items()[0][0] == "a" and dict(store.named_parameters())["a"].requires_grad
    del store["a"]
    assert len(store) == 0


def test_files(tmp_path):
    store = get_param_store()
    param("loc", torch.tensor([1.0, 2.0]))
    param("scale", torch.tensor(0.5), constraint=constraints.positive)
    param("part", torch.tensor(1.5), constraint=constraints.interval(1.0, 2.0))
    rows = constraints.independent(constraints.positive, 1)
    param("rows", torch.ones(2, 3), constraint=rows, event_dim=1)
    expected = {name: value.detach().clone() for name, value in store.items()}
    store.save(tmp_path / "fit.pt")
    store.clear()
    store.load(tmp_path / "fit.pt")
    assert {name: str(store.constraint(name)) for name in store} == {
        "loc": "Real()",
        "scale": "GreaterThan(lower_bound=0.0)",
        "part": "Interval(lower_bound=1.0, upper_bound=2.0)",
        "rows": str(rows),
    }
    for name, value in expected.items():
        torch.testing.assert_close(store[name].detach(), value)
        assert store.unconstrained(name).requires_grad
    assert param("scale", torch.tensor(9.0), constraint=constraints.positive) == 0.5


class _Malicious:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.pplkit_was_here = True",))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    import builtins

    param("p", torch.tensor(1.0))
    for content in (_Malicious(), {"p": _Malicious()}, {"p": 3}, [1, 2]):
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(errors.ParamError, match="is no file of parameters"):
            get_param_store().load(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_bytes(b"not a file of tensors")
    with pytest.raises(errors.ParamError, match="is no file of parameters"):
        get_param_store().load(tmp_path / "bad.pt")
    assert not hasattr(builtins, "pplkit_was_here")
    assert param("p") == 1.0


def test_a_modules_parameters_are_the_leaves():
    net = module("net", torch.nn.Linear(2, 1))
    assert get_param_store().unconstrained("net$$$weight") is net.weight
    module("net", net)
    assert get_param_store().unconstrained("net$$$weight") is net.weight


def test_a_new_module_of_the_same_make_takes_over_what_was_learnt():
    old = module("net", torch.nn.Linear(2, 1))
    new = module("net", torch.nn.Linear(2, 1))
    assert torch.equal(old.weight, new.weight)
    assert get_param_store().unconstrained("net$$$weight") is new.weight
    with pytest.raises(errors.ParamError, match="left over from an earlier run with another shape"):
        module("net", torch.nn.Linear(3, 1))


def test_a_state_in_memory_is_not_moved_by_later_steps():
    param("loc", torch.tensor(1.0))
    store = get_param_store()
    state = store.get_state()
    with torch.no_grad():
        store.unconstrained("loc").add_(0.5)
    store.set_state(state)
    assert store["loc"].item() == 1.0
