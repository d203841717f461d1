"""A captured function as ONNX, run by ONNX Runtime, gives what it gives in Python."""

import math

import numpy
import onnx
import onnxruntime
import pytest
import torch
from torch.utils._pytree import tree_leaves

import pplkit
import pplkit.distributions as dist
from pplkit.capture import capture
from pplkit.errors import CaptureError
from pplkit.infer import SVI, Trace_ELBO
from pplkit.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pplkit.optim import Adam
from tests.capture.test_captured_corpus import built, log_joint

SAMPLE = ("eight_schools", "logistic_regression", "beta_bernoulli")


def session(made):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.model_bytes, options)


def arrays(captured, made, args, noise):
    """What the model is fed, by name."""
    program, leaves, _ = captured._program_for(args)
    names = [node.name for node in captured.graph.graph.nodes if node.op == "placeholder"]
    given = [x for x, shape in zip(leaves, program.traced.shapes, strict=True) if shape is not None]
    values = dict(zip(names, [*given, *noise, *captured.closed_over], strict=True))
    return {
        entry["name"]: numpy.asarray(torch.as_tensor(values[entry["name"]]).detach())
        for entry in made.inputs
    }


def agrees(captured, made, *args, rtol=1e-4, atol=1e-5, runtime=None):
    noise = captured.draw_noise(*args, seed=1)
    runtime = session(made) if runtime is None else runtime
    found = runtime.run(
        [entry["name"] for entry in made.outputs], arrays(captured, made, args, noise)
    )
    expected = tree_leaves(captured.eager(*args, noise=noise))
    for ours, theirs in zip(found, expected, strict=True):
        theirs = torch.as_tensor(theirs).detach()
        torch.testing.assert_close(
            torch.as_tensor(ours), theirs, rtol=rtol, atol=atol, equal_nan=True
        )
    return found


def test_products_with_vectors():
    a, v = torch.randn(3, 3), torch.randn(3)

    def fn(a, v):
        return {"twice": a.T @ (a @ v), "left": (v @ a) @ a.T, "dot": v @ (a.T @ v)}

    captured = capture(fn, a, v)
    agrees(captured, captured.to_onnx(a, v), a, v)


def test_sizes_are_inputs_and_outputs_have_names():
    scale = torch.tensor([1.0, 2.0, 3.0])

    def fn(controls, data):
        with pplkit.plate("rows", controls["n"]):
            x = pplkit.sample("x", dist.Normal(controls["mu"], 2.0))
        twice = {"x": x, "again": x, "as given": data}
        return {"draws": twice, "closed": {"y": scale * controls["mu"]}}

    data = torch.linspace(0.0, 1.0, 4)
    captured = capture(fn, {"mu": 0.5, "n": 6}, data)
    made = captured.to_onnx()
    kinds = [(entry["name"], entry["kind"], entry["shape"]) for entry in made.inputs]
    assert kinds == [
        ("controls_mu", "argument", []),
        ("controls_n", "argument", []),
        ("data", "argument", ["data_0"]),
        ("noise_0", "noise", ["controls_n"]),
        ("closed_0", "closed", [3]),
    ]
    assert made.inputs[0]["path"] == ["controls", "mu"]
    assert (made.inputs[3]["distribution"], made.inputs[3]["draw"]) == ("normal", 0)
    assert [entry["path"] for entry in made.outputs] == [
        ["draws", "x"], ["draws", "again"], ["draws", "as given"], ["closed", "y"]
    ]  # fmt: skip
    assert made.sizes["controls_n"] == {"input": "controls_n", "dim": None, "least": 1}
    assert torch.equal(made.closed["closed_0"], scale)
    scale.add_(1.0)  # what it holds now
    runtime = session(made)
    for n, rows in ((1, 1), (2, 4), (97, 7)):
        agrees(captured, made, {"mu": -1.0, "n": n}, torch.zeros(rows), runtime=runtime)


def test_the_model_says_nothing_of_where_it_was_made():
    made = capture(lambda x: x.exp() + 1, torch.zeros(3)).to_onnx()
    onnx.checker.check_model(onnx.load_from_string(made.model_bytes))
    for word in (b"test_onnx", b".py", b"pkg.torch", b"/"):
        assert word not in made.model_bytes
    assert len(made.model_bytes) < 400


def test_each_choice_of_words_has_a_program_of_its_own():
    def fn(x, kind, squared):
        y = x.sin() if kind == "sine" else x.cos()
        return {"y": y**2 if squared else y}

    captured = capture(fn, torch.linspace(0.0, 1.0, 5), "sine", False)
    x = torch.linspace(0.0, 2.0, 7)
    choices = [(kind, squared) for kind in ("sine", "cosine") for squared in (False, True)]
    models = {captured.to_onnx(x, *choice).model_bytes for choice in choices}
    assert len(models) == 4
    assert all(entry["name"] == "x" for entry in captured.to_onnx(x, "cosine", True).inputs)


def test_conditions_say_which_sizes_a_program_is_for():
    def fn(n, data):
        return {"x": data[:n], "fold": torch.zeros(max(3, 100 // n)) + data.sum()}

    captured = capture(fn, 4, torch.arange(9.0))
    made = captured.to_onnx()
    assert made.outputs[1]["shape"] == [["max", 3, ["//", 100, "n"]]]
    assert made.serves({"n": 9, "data_0": 9})
    assert not made.serves({"n": 10, "data_0": 9})
    agrees(captured, made, 2, torch.arange(5.0))
    agrees(captured, made, 60, torch.arange(100.0))


def test_pythons_own_functions_of_numbers_stay_open():
    """A program for all values of a control, not one for each."""

    def fn(n, p):
        x = torch.linspace(0.5, 2.0, 4)
        return {
            "size": x / math.sqrt(n) + math.log(n, 2) + math.lgamma(n) + math.exp(-n / 5),
            "number": x * math.exp(p) + math.sin(math.pi * p) + max(p, 0.4) + min(0.3, p, n),
            "power": x**n + n**p + math.pow(p, n),
            "kept": x * math.floor(n / 3) + math.sqrt(2.0),
        }

    captured = capture(fn, 5, 0.5, check=False)
    made = captured.to_onnx()
    assert made.conditions == []
    for n, p in ((2, 0.1), (5, 0.5), (30, 0.9)):
        agrees(captured, made, n, p)
        plain, open_ = fn(n, p), captured(n, p, noise=[])
        for name, value in plain.items():
            torch.testing.assert_close(open_[name], value, rtol=1e-5, atol=1e-5)
    assert len(captured.programs) == 1 and math.sqrt(4) == 2.0


def test_no_gradient_flows_through_a_plain_number():
    """In Python `math.log` gives one; the larger of two tensors is a tensor."""

    def slope(x):
        return torch.func.grad(lambda x: x * math.log(x) + max(x, 1.0) * 2.0)(x)

    x = torch.tensor(3.0)
    torch.testing.assert_close(capture(slope, x, check=False)(x), math.log(x) + torch.tensor(2.0))


def test_a_number_that_must_be_known_has_programs_of_its_own():
    captured = capture(lambda n: {"bins": torch.ones(int(math.sqrt(n)))}, 5, check=False)
    assert [len(captured(n)["bins"]) for n in (5, 9, 16)] == [2, 3, 4]


def test_conditions_may_divide():
    captured = capture(lambda n: {"half": torch.ones(int(n / 2)), "n": torch.ones(n)}, 7)
    made = captured.to_onnx()
    assert ["==", ["trunc", ["/", "n", 2]], 3] in made.conditions
    assert [n for n in range(1, 12) if made.serves({"n": n})] == [6, 7]
    agrees(captured, captured.to_onnx(12), 12)


def test_what_onnx_lacks_is_refused_by_name_and_line():
    def fn(x):
        return torch.linalg.eigvalsh(x @ x.mT)  # here

    with pytest.raises(CaptureError, match="cannot be published") as told:
        capture(fn, torch.eye(3)).to_onnx()
    assert "eigh" in str(told.value)
    line = told.value.where
    assert line.filename == __file__
    with open(__file__, encoding="utf-8") as file:
        assert "# here" in file.read().splitlines()[line.line - 1]


def test_a_multivariate_normal_of_a_readers_making():
    def fn(rho, n):
        covariance = torch.stack([torch.stack([rho / rho, rho]), torch.stack([rho, rho / rho])])
        normal = dist.MultivariateNormal(torch.zeros(2), covariance)
        with pplkit.plate("rows", n):
            x = pplkit.sample("x", normal)
        return {"points": {"x": x[:, 0], "y": x[:, 1], "height": normal.log_prob(x)}}

    captured = capture(fn, 0.5, 7)
    made = captured.to_onnx()
    for rho, n in ((0.5, 1), (-0.9, 50)):
        agrees(captured, made, rho, n)


def test_gamma_draws_and_an_exact_posterior():
    counts = torch.tensor([3.0, 5.0, 2.0])

    def fn(shape, rate, n):
        with pplkit.plate("draws", n):
            drawn = pplkit.sample("rate", dist.Gamma(shape, rate))
            count = pplkit.sample("count", dist.Poisson(drawn))
        posterior = dist.Gamma(shape + counts.sum(), rate + len(counts))
        z = torch.linspace(0.1, 10.0, 50)
        return {
            "draws": {"rate": drawn, "count": count},
            "curve": {"z": z, "height": posterior.log_prob(z).exp()},
        }

    captured = capture(fn, 2.0, 1.0, 5)
    made = captured.to_onnx()
    for shape, n in ((2.0, 5), (0.4, 300)):
        agrees(captured, made, shape, 1.5, n)


def test_a_fit_of_500_steps_by_an_automatic_guide_is_one_loop():
    def model(mean, data):
        z = pplkit.sample("z", dist.Normal(mean, 1.0))
        with pplkit.plate("data", len(data)):
            pplkit.sample("x", dist.Normal(z, 0.5), obs=data)

    def fn(mean, data):
        guide = AutoNormal(model)
        svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
        losses = svi.run(500, mean, data).losses
        return {"fit": guide.median(), "losses": losses}

    captured = capture(fn, 0.3, torch.tensor([1.0, 1.5, 0.5]), check=False)
    made = captured.to_onnx()
    nodes = onnx.load_from_string(made.model_bytes).graph.node
    loop = next(node for node in nodes if node.op_type == "Scan")
    body = next(part.g for part in loop.attribute if part.name == "body")
    assert len(nodes) < 30
    assert len(body.node) <= 145  # they are what a step costs in a page
    assert len(made.model_bytes) < 16_000
    data = torch.linspace(0.0, 2.0, 97)
    # Five hundred steps in single precision: rounding differs from kernel to kernel.
    (z, losses) = agrees(captured, made, 0.0, data, rtol=1e-3, atol=1e-3)
    exact = data.sum() / 0.25 / (1.0 + 97 / 0.25)
    assert abs(float(z) - float(exact)) < 0.1
    assert losses.shape == (500,)


def test_a_fit_of_weights_to_a_matrix_that_is_closed_over():
    """In the step the matrix and its transpose are read: two views of one memory."""
    x = torch.tensor([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7], [0.1, -1.2]])
    y = torch.tensor([1.0, 0.0, 1.0, 0.0])

    def model(scale):
        w = pplkit.sample("w", dist.Normal(torch.zeros(2), scale).to_event(1))
        with pplkit.plate("rows", 4):
            pplkit.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    def fn(scale, steps):
        guide = AutoMultivariateNormal(model)  # which sets a diagonal
        svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
        return svi.run(steps, scale).losses

    captured = capture(fn, 1.5, 20, check=False)
    made = captured.to_onnx()
    agrees(captured, made, 0.7, 31, rtol=1e-4, atol=1e-4)


def test_logits_far_out():
    """Where a sigmoid is 0 or 1 to rounding, its logarithm is not."""
    y = torch.tensor([0.0, 1.0, 1.0, 0.0])

    def fn(x):
        return dist.Bernoulli(logits=x).log_prob(y), torch.nn.functional.logsigmoid(x)

    x = torch.tensor([-120.0, -120.0, 20.0, 90.0])
    captured = capture(fn, x)
    agrees(captured, captured.to_onnx(), x, rtol=1e-6, atol=0.0)


# -- the corpus ------------------------------------------------------------------------------------


def served(name):
    """At how many sizes a corpus model's one ONNX program gives its log joint."""
    count, captured, made = 0, None, None
    for size in (None, 1, 2, 7):
        try:
            program, latent = built(name, size)
        except (ValueError, IndexError):
            continue
        args = (latent, *program.args)
        if captured is None:
            captured = capture(log_joint(program), *args, check=False)
            made = captured.to_onnx()
        try:
            usable = captured.programs[0].sizes(captured._leaves(args)) is not None
        except CaptureError:  # of another structure
            usable = False
        if usable and len(captured.programs) == 1:
            agrees(captured, made, *args, rtol=1e-6, atol=1e-8)
            count += 1
    return count


@pytest.mark.parametrize("name", SAMPLE)
def test_a_models_log_joint(name):
    assert served(name) >= 2
