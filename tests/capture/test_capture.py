"""What a captured program takes as inputs, what it keeps open, and what it refuses."""

import builtins
import threading

import numpy as np
import pytest
import torch

import pplkit
import pplkit.distributions as dist
from pplkit import handlers, param, plate, sample
from pplkit.capture import capture
from pplkit.errors import CaptureError, PplkitError

DATA = torch.tensor([1.2, 0.8, 1.5, -0.3])
F64 = torch.float64


def normal():
    return sample("x", dist.Normal(0.0, 1.0))


def coins(probs):
    with plate("data", len(probs)):
        return sample("y", dist.Bernoulli(probs))


def location(data):
    z = sample("z", dist.Normal(torch.zeros((), device=data.device), 1.0))
    with plate("data", len(data)):
        return sample("obs", dist.Normal(z, 0.5), obs=data)


def log_joint(z, data):
    given = handlers.condition(location, data={"z": z})
    return handlers.trace(given).get_trace(data).log_prob_sum()


def replayed(captured, *args):
    noise = captured.draw_noise(*args, seed=1)
    found, expected = captured(*args, noise=noise), captured.eager(*args, noise=noise)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    return found


# -- the first chapter's programs ------------------------------------------------------------------


def test_a_draw():
    captured = capture(normal)
    assert [(n.kind, n.shape) for n in captured.noise] == [("normal", ())]
    assert captured(noise=[torch.tensor(0.25)]) == 0.25


def test_coins():
    captured = capture(coins, torch.tensor([0.2, 0.6, 0.9]))
    for n in (1, 2, 5, 1000):
        assert replayed(captured, torch.rand(n)).shape == (n,)
    uniform = torch.tensor([0.1, 0.7])
    assert captured(torch.tensor([0.2, 0.6]), noise=[uniform]).tolist() == [1.0, 0.0]
    assert len(captured.programs) == 1


def test_the_location_of_data_and_its_gradient():
    for fn in (log_joint, torch.func.grad(log_joint)):
        captured = capture(fn, torch.tensor(0.3), DATA)
        assert captured.guards == [] and captured.closed_over == []
        for n in (1, 2, 7, 100_000):
            replayed(captured, torch.tensor(-0.5), torch.randn(n))
        assert len(captured.programs) == 1


def test_the_location_with_rows_in_a_plate_of_any_size():
    def prior(n, scale):
        z = sample("z", dist.Normal(0.0, scale))
        with plate("data", n):
            return {"y": sample("y", dist.Normal(z, 0.5)), "rows": torch.arange(n)}

    captured = capture(prior, 4, 1.0)
    for n in (1, 2, 7, 1000):
        assert replayed(captured, n, 0.3)["y"].shape == (n,)
    assert len(captured.programs) == 1


# -- sizes -----------------------------------------------------------------------------------------


def test_an_example_of_one_row_is_not_special():
    captured = capture(log_joint, torch.tensor(0.3), DATA[:1])
    replayed(captured, torch.tensor(0.3), DATA)
    assert len(captured.programs) == 1


def test_a_size_of_one_that_is_meant_stays():
    weights = torch.tensor([1.0, -1.0, 0.5])
    captured = capture(lambda column: (column * weights).sum(-1), torch.ones(1, 1))
    assert replayed(captured, torch.randn(6, 1)).shape == (6,)
    assert len(captured.programs) == 1


def test_what_reads_a_size_keeps_it_open():
    def posterior(data, sd):
        n = len(data)
        precision = 1 / sd**2 + 4 * n
        return {
            "mean": 4 * data.sum() / precision,
            "quarter": torch.tensor(n / 4.0),
            "pair": torch.tensor([n, 2 * data.shape[0]]),
            "zeros": torch.zeros(n + 1),
            "gamma": dist.Gamma(3 + n / 2, 2 + (data**2).sum() / 2).log_prob(torch.tensor(1.0)),
        }

    captured = capture(posterior, DATA, 2.0)
    for n in (1, 2, 5):
        found = replayed(captured, torch.randn(n), 0.7)
        assert found["quarter"] == n / 4 and found["pair"].tolist() == [n, 2 * n]
    assert len(captured.programs) == 1


def test_sizes_that_belong_together_are_found_to():
    captured = capture(lambda x, y: x + y, torch.zeros(4), torch.ones(4))
    assert replayed(captured, torch.zeros(9), torch.ones(9)).shape == (9,)
    assert len(captured.guards) == 1
    with pytest.raises(RuntimeError, match="size of tensor"):
        captured(torch.zeros(2), torch.ones(3))


def test_equal_sizes_that_are_independent_stay_so():
    captured = capture(lambda x, y: x.sum() * y.sum(), torch.zeros(4), torch.ones(4))
    replayed(captured, torch.randn(2), torch.randn(9))
    assert captured.guards == [] and len(captured.programs) == 1


def test_a_loop_over_rows_makes_a_program_for_each_size_and_tells_the_line():
    def looped(data):
        total = torch.zeros(())
        for i in plate("rows", len(data)):
            total = total + (i + 1) * sample(f"x_{i}", dist.Normal(data[i], 1.0))
        return total

    captured = capture(looped, DATA)
    assert captured.guards[0].where.line == looped.__code__.co_firstlineno + 2
    for n in (1, 2, 6):
        replayed(captured, torch.randn(n))
    assert len(captured.programs) == 4


def test_there_is_a_limit_to_programs():
    def looped(data):
        return sum(row for row in data)

    captured = capture(looped, DATA, check=False)
    with pytest.raises(CaptureError, match="16 programs already") as told:
        for n in range(1, 30):
            captured(torch.randn(n))
    assert len(captured.programs) == 16
    assert f"line {looped.__code__.co_firstlineno + 1}" in str(told.value)


def test_a_branch_on_a_size_or_a_whole_number_is_never_answered_from_the_other_branch():
    def branching(data, power):
        return data.sum() if len(data) > 5 else data**power if power > 2 else -data

    captured = capture(branching, DATA, 3)
    for args in ((DATA, 3), (DATA, 2), (torch.randn(8), 2), (DATA[:1], 1), (DATA, 0), (DATA, -1)):
        torch.testing.assert_close(captured(*args), branching(*args))


def test_a_size_of_one_that_behaves_otherwise_gets_a_program_of_its_own():
    # Nothing is recorded of such a comparison: a symbol is taken to be more than 1.
    def steps(x):
        return x.sum() if len(x) == 1 else x.mean() + 10

    captured = capture(steps, DATA)
    for n in (5, 1, 2, 1, 3):
        replayed(captured, torch.randn(n))
    assert len(captured.programs) == 2


def test_arguments_of_another_kind_are_refused():
    captured = capture(log_joint, torch.tensor(0.3), DATA)
    for args in (
        (torch.tensor(0.3), DATA.double()),
        (torch.tensor(0.3), DATA[None]),
        (torch.tensor(0.3), 2),
        (torch.tensor(0.3),),
        (torch.tensor(0.3), {"data": DATA}),
    ):
        with pytest.raises(CaptureError, match="arguments of another"):
            captured(*args)
    assert captured(0.3, DATA) == captured(torch.tensor(0.3), DATA)


# -- numbers, tensors and modules ------------------------------------------------------------------


def test_numbers_are_inputs_in_the_precision_of_the_data():
    captured = capture(lambda x, a: x.sum() * a, torch.ones(3, dtype=F64), 0.5)
    assert captured(torch.ones(2, dtype=F64), 0.1).item() == 0.2


def test_what_is_no_number_is_a_constant_with_a_program_for_each_value():
    captured = capture(lambda x, how: x.sum() if how == "sum" else x.mean(), DATA, "sum")
    assert captured(DATA, "mean") == DATA.mean() and captured(DATA, "sum") == DATA.sum()
    assert len(captured.programs) == 2


def test_tensors_closed_over_are_inputs():
    prior = torch.tensor([1.0, 2.0])

    def fn(x):
        return torch.func.grad(lambda x: (dist.Normal(x, prior).log_prob(x * 0) * prior).sum())(x)

    captured = capture(fn, torch.ones(2))
    assert [t is prior for t in captured.closed_over] == [True]
    before = captured(torch.ones(2))
    prior.mul_(3)
    assert not torch.equal(captured(torch.ones(2)), before)
    torch.testing.assert_close(captured(torch.ones(2)), fn(torch.ones(2)))


def test_numbers_written_in_a_program_are_no_inputs():
    captured = capture(lambda x: x + torch.tensor(2.0) * torch.as_tensor(3), torch.ones(2))
    assert captured.closed_over == []
    assert captured(torch.ones(1)) == 7


def test_modules_and_their_dropout():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.5), torch.nn.Tanh())
    captured = capture(lambda x: net(x), torch.randn(4, 2))
    assert {id(t) for t in captured.closed_over} == {id(p) for p in net.parameters()}
    replayed(captured, torch.randn(7, 2))
    with torch.no_grad():
        net[0].weight.mul_(2)
    replayed(captured, torch.randn(1, 2))


def test_parameters_are_read_at_each_call_and_none_is_made():
    def fn(x):
        w = param("w", torch.tensor([0.5, 2.0]), constraint=dist.constraints.positive)
        return (x * w).sum()

    captured = capture(fn, torch.ones(2))
    assert list(pplkit.get_param_store()) == []
    torch.testing.assert_close(captured(torch.ones(2)), torch.tensor(2.5))
    fn(torch.ones(2))
    pplkit.get_param_store()["w"] = torch.tensor([1.0, 3.0])
    torch.testing.assert_close(captured(torch.ones(2)), torch.tensor(4.0))


def test_an_elbo_and_its_gradient_over_parameters_given_as_arguments():
    def guide(data):
        loc = param("loc", torch.zeros(()))
        scale = param("scale", torch.ones(()), constraint=dist.constraints.positive)
        sample("z", dist.Normal(loc, scale))

    def loss(free, data):
        values = {"loc": free["loc"], "scale": free["log_scale"].exp()}
        given = handlers.substitute(guide, data=values)
        return pplkit.infer.Trace_ELBO(num_particles=3).differentiable_loss(location, given, data)

    free = {"loc": torch.tensor(0.1), "log_scale": torch.tensor(-0.5)}
    captured = capture(torch.func.grad_and_value(loss), free, DATA)
    assert len(captured.noise) == 3
    for n in (1, 5, 1000):
        replayed(captured, free, torch.randn(n))
    assert len(captured.programs) == 1


def test_gradients_flow_through_a_captured_program():
    captured = capture(log_joint, torch.tensor(0.3), DATA)
    z = torch.tensor(0.3, requires_grad=True)
    (ours,) = torch.autograd.grad(captured(z, DATA), z)
    torch.testing.assert_close(ours, torch.func.grad(log_joint)(torch.tensor(0.3), DATA))


# -- noise -----------------------------------------------------------------------------------------


def test_noise_is_an_input_and_torchs_stream_is_left_alone():
    probs = torch.tensor([0.2, 0.5, 0.9])
    captured = capture(coins, probs)
    state = torch.get_rng_state()
    one = captured.draw_noise(probs, seed=5)
    captured(probs, noise=one)
    captured.eager(probs, noise=one)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[0], captured.draw_noise(probs, seed=5)[0])
    with handlers.seed(rng_seed=5):
        assert torch.equal(one[0], captured.draw_noise(probs)[0])
    assert not torch.equal(captured.draw_noise(probs)[0], one[0])


def test_noise_of_other_sizes_is_refused():
    captured = capture(coins, torch.rand(4))
    with pytest.raises(CaptureError, match="noise that does not fit"):
        captured.eager(torch.rand(4), noise=captured.draw_noise(torch.rand(3)))
    with pytest.raises(CaptureError, match="noise that does not fit"):
        captured(torch.rand(4), noise=captured.draw_noise(torch.rand(3)))
    with pytest.raises(CaptureError, match="noise that does not fit"):
        captured(torch.rand(4), noise=[])


def test_rows_under_vmap_have_noise_of_their_own():
    def fn(x):
        return torch.func.vmap(lambda a: dist.Normal(a, 1.0)(), randomness="different")(x)

    captured = capture(fn, torch.zeros(3))
    assert len(set(captured(torch.zeros(50)).tolist())) == 50


def test_a_plates_subsample_is_noise_too():
    def fn(data, m):
        with plate("data", len(data), subsample_size=m) as rows:
            return rows, sample("x", dist.Normal(data[rows], 1.0))

    captured = capture(fn, torch.randn(10), 4)
    rows, x = replayed(captured, torch.randn(50), 20)
    assert x.shape == (20,) and len(set(rows.tolist())) == 20


def test_without_a_tensor_among_the_arguments():
    def fn(n):
        weights = torch.tensor([0.5, 2.0])
        return dist.Beta(1.0, 2.0).rsample((n, 2)) * weights, dist.Categorical(weights).sample((n,))

    captured = capture(fn, 4)
    for n in (1, 2, 50):
        assert replayed(captured, n)[0].shape == (n, 2)
    assert len(captured.programs) == 1


def test_a_grid_of_any_number_of_points():
    captured = capture(lambda low, n: torch.linspace(low, 4.0, n), -1.5, 5)
    for n in (1, 2, 3, 100, 101):
        torch.testing.assert_close(captured(-3.0, n), torch.linspace(-3.0, 4.0, n))
    assert len(captured.programs) == 1


def test_how_rows_go_together():
    def fn(x):
        square = x @ x.mT
        return torch.cov(x, correction=0), x.T.cov(), torch.corrcoef(x), square.fill_diagonal_(2.0)

    captured = capture(fn, torch.randn(3, 7))
    for shape in ((3, 5), (3, 20)):
        x = torch.randn(shape)
        for ours, theirs in zip(captured(x), fn(x), strict=True):
            torch.testing.assert_close(ours, theirs)


# -- what is refused -------------------------------------------------------------------------------


def branch(x):
    if x[0] > 0:
        return x
    return -x


def loop_until(x):
    while sample("more", dist.Bernoulli(0.5)):
        x = x + 1
    return x


def item(x):
    return x * x.sum().item()


def listed(x):
    return torch.tensor(x.tolist())


def in_numpy(x):
    return torch.as_tensor(np.sin(x.numpy()))


def some_rows(x):
    return x[x > 0].sum()


def places(x):
    return torch.nonzero(x)


def own_stream(x):
    return x + torch.randn(4, generator=torch.Generator().manual_seed(0))


def noisy_slope(x):
    return torch.nn.functional.rrelu(x, training=True)


CLOSED = torch.tensor(2.0)


def number_closed_over(x):
    return x * float(CLOSED)


def changed_argument(x):
    x += 1
    return x


def changed_row(x):
    x[0] = 1.0
    return x


def changed_closure(x):
    CLOSED.add_(0.0)
    return x + CLOSED


BATCH_NORM = torch.nn.BatchNorm1d(2)


def batch_norm(x):
    return BATCH_NORM(x.reshape(2, 2))


def plate_from_tensor(x):
    with plate("rows", x.sum().long()):
        return sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    "fn, line, said",
    [
        (branch, 1, "asking a tensor for its number"),
        (loop_until, 1, "asking a tensor for its number"),
        (item, 1, "asking a tensor for its number"),
        (listed, 1, "asking a tensor for its number"),
        (number_closed_over, 1, "asking a tensor for its number"),
        (plate_from_tensor, 1, "asking a tensor for its number"),
        (in_numpy, 1, "numpy"),
        (some_rows, 1, "shape depends on numbers"),
        (places, 1, "aten.nonzero"),
        (own_stream, 1, "a torch.Generator cannot be captured"),
        (noisy_slope, 1, "rrelu_with_noise"),
        (changed_argument, 1, "changing an input in place"),
        (changed_row, 1, "changing an input in place"),
        (changed_closure, 1, "changing an input in place"),
        (batch_norm, 1, "changing an input in place"),
    ],
)
def test_refused_with_operation_line_and_remedy(fn, line, said):
    with pytest.raises(CaptureError, match=said) as told:
        capture(fn, torch.ones(4))
    assert told.value.where == (__file__, fn.__code__.co_firstlineno + line)
    for part in ("where:", "expected:", "remedy:"):
        assert part in str(told.value)


def test_a_mistake_of_the_functions_own_comes_out_as_it_is():
    def wrong(data):
        with plate("data", 3):
            sample("x", dist.Normal(torch.zeros(2), 1.0))

    with pytest.raises(PplkitError, match="plate 'data'") as told:
        capture(wrong, DATA)
    assert not isinstance(told.value, CaptureError)
    with pytest.raises(PplkitError, match="capture cannot use this fn"):
        capture(DATA)


def test_a_result_that_is_no_tensor():
    with pytest.raises(CaptureError, match="a result that is no tensor"):
        capture(lambda x: {"x": x, "name": "x"}, DATA)


def test_state_kept_between_runs_is_found_out():
    count = iter(range(1000))
    with pytest.raises(CaptureError, match="does not compute what the function does"):
        capture(lambda x: x + next(count), DATA)


# -- the process is left as it was -----------------------------------------------------------------


def test_nothing_is_left_behind_when_capture_fails(monkeypatch):
    plain, here = builtins.len, threading.get_ident()
    with handlers.seed(rng_seed=0), handlers.trace() as outer:
        with pytest.raises(CaptureError):
            capture(loop_until, torch.ones(4))
        capture(coins, torch.rand(4))
    assert builtins.len is plain and threading.get_ident() == here
    assert outer.trace.stochastic_nodes == []
    assert list(pplkit.get_param_store()) == []


def test_other_threads_do_not_notice():
    stop, seen = threading.Event(), []

    def elsewhere():
        while not stop.is_set():
            seen.append((len(DATA), type(len(DATA)), torch.rand(2).shape, DATA.sum().item()))

    def captures():
        results.append(capture(log_joint, torch.tensor(0.3), DATA)(torch.tensor(0.3), DATA))

    results = []
    threads = [threading.Thread(target=captures) for _ in range(2)]
    watcher = threading.Thread(target=elsewhere)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert len(results) == 2 and results[0] == results[1] == log_joint(torch.tensor(0.3), DATA)
    assert {row[:3] for row in seen} == {(4, int, (2,))}


def test_another_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    with pytest.raises(CaptureError, match="not one that capture is tested with"):
        capture(normal)


def test_what_is_made_inside_may_be_changed_in_place():
    def fn(x):
        made = torch.zeros(len(x))
        made[1:] = x[:-1]
        made += 1
        return made.mul_(2)

    captured = capture(fn, DATA)
    replayed(captured, torch.randn(9))
    (found,) = captured.program.module()(DATA)
    assert torch.equal(found, fn(DATA))
    for node in captured.program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable


# -- export ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn, args",
    [
        (torch.func.grad(log_joint), (torch.tensor(0.3), DATA)),
        (coins, (torch.rand(4),)),
        (lambda a, n: dist.Gamma(a, 1.0).expand([n])(), (2.0, 5)),
        (lambda n: (torch.randperm(n), torch.zeros(2 * n)), (4,)),
    ],
    ids=["gradient", "coins", "gamma", "sizes"],
)
def test_an_exported_program_has_torch_operations_alone(fn, args):
    captured = capture(fn, *args)
    program = captured.program
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert node.target.namespace == "aten"
            assert torch.Tag.nondeterministic_seeded not in node.target.tags
            assert not node.target._schema.is_mutable
        assert node.op in ("placeholder", "call_function", "output")
    assert not program.constants and not program.state_dict
    flat = [x for x in captured._leaves(args)] + captured.draw_noise(*args, seed=0)
    again = torch.utils._pytree.tree_leaves(captured(*args, noise=flat[len(args) :]))
    for ours, theirs in zip(program.module()(*flat), again, strict=True):
        assert torch.equal(ours, theirs)


def test_an_exported_program_is_for_other_sizes_and_survives_a_file(tmp_path):
    captured = capture(log_joint, torch.tensor(0.3), DATA)
    torch.export.save(captured.program, tmp_path / "log joint.pt2")
    program = torch.export.load(tmp_path / "log joint.pt2").module()
    for n in (1, 2, 50):
        data = torch.randn(n)
        (found,) = program(torch.tensor(0.1), data)
        torch.testing.assert_close(found, log_joint(torch.tensor(0.1), data))
    apart = capture(lambda x, y: x.sum() * y.sum(), torch.ones(4), torch.ones(4)).program.module()
    assert apart(torch.ones(2), torch.ones(9))[0] == 18
    names = [node.name for node in captured.program.graph.nodes if node.op == "placeholder"]
    assert names == ["z", "data"]
