"""Elementary forms against SciPy and torch, as they are and through ONNX Runtime."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.special as sp
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pplkit.capture import capture, elementary, matrices
from pplkit.capture.published import decompositions
from pplkit.distributions.special import gamma_slope, gamma_tails
from tests.capture.families import answers

F32, F64 = torch.float32, torch.float64
EDGES = [0.0, math.inf, -math.inf, math.nan, -1.0, -2.0, 1.0, 2.0, 1e-30, -1e-30, 1e30, -1e30]

_TINY = np.logspace(-300, -1, 400)
POSITIVE = np.concatenate([_TINY, np.logspace(-1, 300, 500), np.linspace(0.5, 12, 300)])
ANY = np.concatenate([POSITIVE, -_TINY, -np.linspace(0.013, 30, 400)])
REAL = np.concatenate([np.linspace(-40, 40, 1201), _TINY, -_TINY])
SHARE = np.concatenate([_TINY, np.linspace(0.001, 0.999, 500), 1 - np.logspace(-15, -1, 50)])
BOTH_SHARES = np.concatenate([SHARE, -SHARE])


# A clamp between numbers of its own kind stays, and a power that is written in the program.
REPLACED = decompositions().keys() - {
    torch.ops.aten.clamp.default,
    torch.ops.aten.pow.Tensor_Scalar,
}


def logistic_log(x):
    return -np.logaddexp(0, -x)


# Of each: torch's function, SciPy's, where; the bounds of the relative error, or of that of one
# more than the value where the function has zeros, in double and single precision.
MIXED = "mixed"
CASES = {
    "lgamma": (torch.lgamma, sp.gammaln, ANY, MIXED, 8e-15, 1.2e-7),
    "digamma": (torch.digamma, sp.psi, ANY, MIXED, 5e-14, 1.2e-7),
    "trigamma": (lambda x: torch.polygamma(1, x), lambda x: sp.polygamma(1, x), POSITIVE, 0, 2e-14,
                 1.2e-7),
    "polygamma": (lambda x: torch.polygamma(3, x), lambda x: sp.polygamma(3, x),
                  POSITIVE[(POSITIVE > 1e-60) & (POSITIVE < 1e60)], 0, 2e-14, 1.2e-7),
    "erf": (torch.erf, sp.erf, REAL, 0, 1e-15, 1e-6),
    "erfc": (torch.erfc, sp.erfc, REAL, 0, 1e-13, 1.2e-7),
    "erfcx": (torch.special.erfcx, sp.erfcx, REAL[REAL > -5], 0, 1e-14, 1.2e-7),
    "log_ndtr": (torch.special.log_ndtr, sp.log_ndtr, REAL, 0, 1e-13, 1.2e-7),
    "ndtri": (torch.special.ndtri, sp.ndtri, SHARE, MIXED, 3e-15, 1.2e-7),
    "erfinv": (torch.erfinv, sp.erfinv, BOTH_SHARES, 0, 3e-15, 1.2e-7),
    "log1p": (torch.log1p, np.log1p, np.concatenate([POSITIVE, -SHARE]), 0, 1e-15, 4e-7),
    "expm1": (torch.expm1, np.expm1, REAL, 0, 2e-15, 1e-6),
    "sigmoid": (torch.sigmoid, sp.expit, REAL, 0, 2e-15, 1e-6),
    "softplus": (lambda x: torch.nn.functional.softplus(x, threshold=40), lambda x: -logistic_log(-x),
                 REAL, 0, 2e-15, 1e-6),
    "log_sigmoid": (torch.nn.functional.logsigmoid, logistic_log, REAL, 0, 2e-15, 1e-6),
    "i0e": (torch.special.i0e, sp.i0e, REAL * 20, 0, 4e-15, 1.2e-7),
    "i1e": (torch.special.i1e, sp.i1e, REAL * 20, 0, 4e-15, 1.2e-7),
    "i0": (torch.i0, sp.i0, REAL, 0, 4e-15, 1e-6),
    "i1": (torch.special.i1, sp.i1, REAL, 0, 4e-15, 1e-6),
    "tan": (torch.tan, np.tan, REAL, 0, 1e-12, 2e-6),
    "atan": (torch.atan, np.arctan, ANY, 0, 1e-15, 1e-6),
    "asin": (torch.asin, np.arcsin, BOTH_SHARES, 0, 2e-15, 2e-6),
    "acos": (torch.acos, np.arccos, BOTH_SHARES, 0, 2e-15, 2e-6),
    "sinh": (torch.sinh, np.sinh, REAL, 0, 2e-15, 2e-6),
    "cosh": (torch.cosh, np.cosh, REAL, 0, 2e-15, 2e-6),
    "asinh": (torch.asinh, np.arcsinh, ANY, 0, 2e-15, 2e-6),
    "acosh": (torch.acosh, np.arccosh, 1 + POSITIVE, 0, 2e-15, 1e-3),
    "atanh": (torch.atanh, np.arctanh, BOTH_SHARES, 0, 2e-15, 2e-6),
}  # fmt: skip


def formed(fn, *like):
    """What the table makes of a function."""
    return make_fx(fn, decomposition_table=decompositions())(*like)


def numbers(name, dtype) -> tuple[torch.Tensor, np.ndarray]:
    x = torch.tensor(CASES[name][2]).to(dtype)
    x = x[x.isfinite()]
    with np.errstate(all="ignore"):
        return x, np.asarray(CASES[name][1](x.double().numpy()), dtype=np.float64)


def assert_close(name, found, expected, dtype):
    mixed, bound = CASES[name][3] == MIXED, CASES[name][4 if dtype == F64 else 5]
    limits = torch.finfo(dtype)
    normal = (np.abs(expected) <= limits.max) & (np.abs(expected) > 2 * limits.tiny)
    found = found.astype(np.float64)
    scale = np.abs(expected) + mixed
    with np.errstate(all="ignore"):
        error = np.where(normal, np.abs(found - expected) / scale, 0)
    error = np.where(np.isnan(error), np.inf, error)
    assert error.max() <= bound, (error.max(), np.argmax(error))
    tiny = np.abs(expected) <= 2 * limits.tiny
    assert mixed or (np.abs(found[tiny]) <= 4 * limits.tiny).all()
    beyond = np.abs(expected) > limits.max * 1.01
    assert (np.abs(found[beyond]) == math.inf).all()


@pytest.mark.parametrize("dtype", [F64, F32], ids=["double", "single"])
@pytest.mark.parametrize("name", CASES)
def test_form_equals_scipy_over_its_range(name, dtype):
    x, expected = numbers(name, dtype)
    graph = formed(CASES[name][0], x)
    assert_close(name, graph(x).numpy(), expected, dtype)
    edges = torch.tensor(EDGES, dtype=dtype)
    ours, theirs = graph(edges), CASES[name][0](edges)
    if name == "trigamma":  # torch's own has ten digits, and is finite at the poles
        theirs = torch.where(edges.isfinite() & (edges < -0.5), math.inf, theirs)
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=0, equal_nan=True)
        return
    if name == "polygamma":  # of positive numbers alone
        keep = edges >= 0
        ours, theirs = ours[keep & (edges < 1e20)], theirs[keep & (edges < 1e20)]
    if name == "tan":  # of a large number, that is a matter of luck
        ours, theirs = ours[:-2], theirs[:-2]
    torch.testing.assert_close(ours, theirs, rtol=2e-6 if dtype == F32 else 1e-12, atol=1e-6
                               if dtype == F32 else 1e-13, equal_nan=True)  # fmt: skip


def through_runtime(names, dtype):
    """One model of all these functions, and what ONNX Runtime makes of it."""
    rows = {name: numbers(name, dtype)[0] for name in names}
    captured = capture(lambda: {name: CASES[name][0](rows[name]) for name in names}, check=False)
    model = captured.to_onnx()
    found = answers(model, (), [])
    return {entry["path"][0]: x for entry, x in zip(model.outputs, found, strict=True)}


FEW = ("lgamma", "log_ndtr", "erfinv", "log1p", "expm1", "sigmoid", "i0e", "atan")


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (FEW, F32),
        (FEW, F64),
        pytest.param(tuple(CASES), F32, marks=pytest.mark.long),
        pytest.param(tuple(CASES), F64, marks=pytest.mark.long),
    ],
    ids=["few-single", "few-double", "all-single", "all-double"],
)
def test_onnx_runtime_computes_the_forms_as_well(names, dtype):
    for name, found in through_runtime(names, dtype).items():
        assert_close(name, found, numbers(name, dtype)[1], dtype)


# -- functions of two numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F64, F32], ids=["double", "single"])
def test_two_numbers(dtype):
    one, two = (torch.tensor(v, dtype=dtype).flatten() for v in np.meshgrid(REAL[::7], REAL[::9]))
    like = one[:3], two[:3]
    both = formed(torch.logaddexp, *like)(one, two)
    torch.testing.assert_close(both, torch.logaddexp(one, two))
    ends = torch.tensor([-math.inf, math.inf, -math.inf, 3.0], dtype=dtype)
    others = torch.tensor([-math.inf, math.inf, 1.0, math.nan], dtype=dtype)
    for fn in (torch.logaddexp, torch.xlogy, torch.special.xlog1py):
        ours = formed(fn, ends, others)(ends, others)
        torch.testing.assert_close(ours, fn(ends, others), equal_nan=True)
    angle = formed(torch.atan2, *like)(one, two)
    torch.testing.assert_close(angle, torch.atan2(one, two))


def test_incomplete_gamma_functions_equal_scipy():
    stream = np.random.default_rng(0)
    a = np.concatenate([10 ** stream.uniform(-30, 0, 300), 10 ** stream.uniform(-2, 3, 900)])
    x = a * np.exp(stream.normal(0, 1.5, a.size))
    lower, upper = (t.numpy() for t in gamma_tails(torch.tensor(a), torch.tensor(x)))
    below, above = sp.gammainc(a, x), sp.gammaincc(a, x)
    assert np.abs(lower - below).max() < 1e-12
    assert np.abs(upper - above).max() < 1e-12
    counts = (below > 1e-280) & (below < 0.5)
    assert np.abs(lower / below - 1)[counts].max() < 1e-11
    counts = (above > 1e-280) & (above < 0.5) & (x > 1)
    assert np.abs(upper / above - 1)[counts].max() < 1e-11
    single = elementary.igamma(torch.tensor(a).float(), torch.tensor(x).float()).numpy()
    exact = sp.gammainc(a.astype(np.float32).astype(float), x.astype(np.float32).astype(float))
    assert np.abs(single - exact).max() < 2e-7


@pytest.mark.parametrize(("a", "x"), [(957954.0, 953065.0), (1e6, 1.004e6), (3e-9, 1e-20), (40, 2)])
def test_incomplete_gamma_functions_where_scipy_is_not_exact(a, x):
    with mpmath.workdps(40):
        term, total, k = mpmath.mpf(1), mpmath.mpf(0), 0
        while term > total * mpmath.mpf(10) ** -30:
            total, k = total + term, k + 1
            term *= mpmath.mpf(x) / (mpmath.mpf(a) + k)
        front = a * mpmath.log(mpmath.mpf(x)) - x - mpmath.loggamma(mpmath.mpf(a) + 1)
        expected = mpmath.exp(front) * total
        lower, upper = gamma_tails(torch.tensor(a, dtype=F64), torch.tensor(x, dtype=F64))
        assert abs(lower.item() / expected - 1) < 1e-11
        assert abs(upper.item() - (1 - expected)) < 1e-11


def test_incomplete_gamma_functions_at_the_ends():
    a = torch.tensor([2.0, 0.0, 0.0, math.inf, 2.0, -1.0, math.nan, math.inf, 2.0], dtype=F64)
    x = torch.tensor([0.0, 0.0, 1.0, 1.0, math.inf, 1.0, 1.0, math.inf, -1.0], dtype=F64)
    lower, upper = gamma_tails(a, x)
    torch.testing.assert_close(lower, torch.igamma(a, x), equal_nan=True)
    torch.testing.assert_close(upper, torch.igammac(a, x), equal_nan=True)


def test_slope_of_a_gamma_draw_holds_its_probability():
    a = torch.tensor([0.01, 0.3, 0.99, 1.0, 2.5, 40.0, 3000.0], dtype=F64).unsqueeze(-1)
    x = a * torch.tensor([0.01, 0.5, 1.0, 1.7], dtype=F64)
    step = 1e-6 * a
    moved = gamma_slope(a, x)
    low, high = (gamma_tails(a + s, x + s * moved)[0] for s in (-step, step))
    density = torch.distributions.Gamma(a, 1.0).log_prob(x).exp()
    # What is left of the probability's change, as a part of what either motion brings.
    left = (high - low).abs() / (2 * step * moved * density + 1e-9)
    assert left.max() < 1e-4
    near = torch._standard_gamma_grad(a.expand_as(x).contiguous(), x)
    torch.testing.assert_close(moved, near, rtol=5e-3, atol=1e-12)


# -- derivatives -----------------------------------------------------------------------------------

SLOPES = {
    "lgamma": (torch.lgamma, lambda x: sp.psi(x)),
    "digamma": (torch.digamma, lambda x: sp.polygamma(1, x)),
    "trigamma": (lambda x: torch.polygamma(1, x), lambda x: sp.polygamma(2, x)),
    "erfinv": (lambda x: torch.erfinv(x / 10), None),
    "ndtri": (lambda x: torch.special.ndtri(x / 10), None),
    "log_ndtr": (torch.special.log_ndtr, None),
    "erfcx": (torch.special.erfcx, None),
    "i0e": (torch.special.i0e, None),
    "i1e": (torch.special.i1e, None),
    "softplus": (torch.nn.functional.softplus, sp.expit),
    "log_sigmoid": (torch.nn.functional.logsigmoid, lambda x: sp.expit(-x)),
    "igamma": (lambda x: torch.igamma(torch.tensor(2.5, dtype=F64), x), None),
    "logcumsumexp": (lambda x: x.logcumsumexp(0), None),
    "cumprod": (lambda x: x.cumprod(0), None),
}


@pytest.mark.parametrize("name", SLOPES)
def test_derivatives(name):
    fn, exact = SLOPES[name]
    x = torch.tensor([0.3, 1.0, 1.7, 4.2, 9.5], dtype=F64)
    slope = torch.func.grad(lambda x: fn(x).sum())
    graph = formed(slope, x)
    kept = {n.target for n in graph.graph.nodes if n.op == "call_function"}
    assert not kept & REPLACED
    torch.testing.assert_close(graph(x), slope(x), rtol=1e-9, atol=1e-12)
    if exact is not None:
        torch.testing.assert_close(graph(x).numpy(), exact(x.numpy()), rtol=1e-12, atol=1e-13)


# -- matrices --------------------------------------------------------------------------------------


def matrices_of(n):
    stream = torch.Generator().manual_seed(n)
    a = torch.randn(3, n, n, generator=stream, dtype=F64) + 2 * torch.eye(n, dtype=F64)
    return a, a @ a.mT + torch.eye(n, dtype=F64), torch.randn(3, n, 2, generator=stream, dtype=F64)


def factorised(a, positive, b):
    """All that is done with matrices."""
    lower = torch.linalg.cholesky(positive)
    return (
        lower,
        torch.linalg.cholesky(positive, upper=True),
        torch.linalg.solve_triangular(lower, b, upper=False),
        torch.linalg.solve_triangular(lower.mT, b, upper=True),
        torch.linalg.solve_triangular(lower, b.mT, upper=False, left=False),
        torch.linalg.solve_triangular(lower.mT, b.mT, upper=True, left=False, unitriangular=True),
        torch.cholesky_inverse(lower),
        torch.cholesky_solve(b, lower),
        torch.linalg.inv(a),
        torch.linalg.det(a),
        torch.linalg.solve(a, b),
        torch.linalg.solve(a, b.mT, left=False),
        torch.linalg.solve(a[0], b[0, :, 0]),
        *torch.linalg.slogdet(a),
        torch.logdet(positive),
    )


@pytest.mark.parametrize("n", range(1, 9))
def test_matrices_equal_torch(n):
    given = matrices_of(n)
    graph = formed(factorised, *given)
    kept = {node.target for node in graph.graph.nodes if node.op == "call_function"}
    assert not kept & REPLACED
    for ours, theirs in zip(graph(*given), factorised(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_gradients_of_matrices_equal_torch():
    given = matrices_of(3)
    slope = torch.func.grad(
        lambda *m: sum(x.sin().sum() for x in factorised(*m)), argnums=(0, 1, 2)
    )
    for ours, theirs in zip(formed(slope, *given)(*given), slope(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


def test_a_matrix_that_is_not_positive_is_told():
    spoilt = torch.tensor([[[1.0, 2.0], [2.0, 1.0]], [[2.0, 1.0], [1.0, 2.0]]])
    factor, info = matrices.cholesky_ex(spoilt)
    assert info.tolist() == [2, 0]
    assert factor[0].isnan().any()
    assert not factor[1].isnan().any()
    assert matrices.lu_factor_ex(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))[2].item() == 2


def test_rows_are_swapped_where_a_pivot_is_zero():
    a = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [1.0, 4.0, 0.0]], dtype=F64)
    inverse, info = matrices.inv_ex(a)
    torch.testing.assert_close(inverse @ a, torch.eye(3, dtype=F64))
    assert info.item() == 0
    assert matrices.det(a)[0].item() == pytest.approx(25.0)


def test_large_matrices_are_left_as_they_are():
    big = torch.eye(matrices.LARGEST + 1)
    graph = formed(torch.linalg.cholesky, big)
    assert torch.ops.aten.linalg_cholesky_ex.default in {n.target for n in graph.graph.nodes}


def test_matrices_in_onnx_runtime():
    a, positive, b = (x.float() for x in matrices_of(4))
    captured = capture(
        lambda: (torch.linalg.cholesky(positive), torch.linalg.solve(a, b), torch.logdet(positive)),
        check=False,
    )
    found = answers(captured.to_onnx(), (), [])
    for ours, theirs in zip(found, captured(), strict=True):
        torch.testing.assert_close(torch.tensor(ours), theirs, rtol=1e-4, atol=1e-5)


# -- along a dimension -----------------------------------------------------------------------------


def test_running_values_and_places():
    x = torch.tensor([[0.5, -2.0, 0.0, 3.0], [-1.0, 0.1, 4.0, 4.0]], dtype=F64)
    row = x.sort(-1).values
    ends = torch.tensor([-math.inf, 1.0, 800.0, -math.inf], dtype=F64)

    def along(x, row, ends):
        return (
            x.cumprod(0), x.cumprod(1), x.logcumsumexp(0), x.logcumsumexp(-1), ends.logcumsumexp(0),
            torch.searchsorted(row, x), torch.searchsorted(row, x, right=True),
            torch.bucketize(x, row[0]), torch.bucketize(x, row[1], right=True, out_int32=True),
        )  # fmt: skip

    graph = formed(along, x, row, ends)
    assert not {node.target for node in graph.graph.nodes} & REPLACED
    for ours, theirs in zip(graph(x, row, ends), along(x, row, ends), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_middles_running_extremes_and_distances():
    rows = torch.tensor([[3.0, 1.0, 2.0, 2.0], [math.nan, 5.0, 4.0, 6.0], [0.0, -1.0, 7.0, -1.0]])
    whole, ends = rows.nan_to_num(0).long(), torch.tensor([math.inf, 1.0, -math.inf])

    def along(rows, whole, ends):
        return (
            rows.median(), *rows.median(1), rows.median(0, keepdim=True).values, whole.median(),
            *whole.median(-1), ends.median(), *rows.cummax(1), *rows.cummin(0), *whole.cummax(0),
            *ends.cummax(0), torch.hypot(rows, rows + 1), torch.hypot(3e30 * ends, 4e30 * ends),
            torch.cdist(rows[2:], whole[:2].float()), torch.cdist(rows[2:], rows[:1], p=1.0),
        )  # fmt: skip

    graph = formed(along, rows, whole, ends)
    assert not {node.target for node in graph.graph.nodes} & REPLACED
    for ours, theirs in zip(
        graph(rows, whole, ends), along(rows, whole, ends), strict=True
    ):
        if theirs.dtype == torch.int64 and theirs.shape == rows.shape[:1]:
            continue  # the place of a median: any of equals
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    values, places = graph(rows, whole, ends)[1:3]
    torch.testing.assert_close(
        rows.gather(1, places.unsqueeze(1)).squeeze(1), values, equal_nan=True
    )


def test_a_diagonal_is_set():
    x, row = torch.arange(30.0).reshape(2, 3, 5), torch.tensor([-1.0, -2.0, -3.0])

    def along(x, row):
        return (
            torch.diagonal_scatter(x, row.expand(2, 3), 0, 1, 2),
            torch.diagonal_scatter(x, row.expand(2, 3), 2, -2, -1),
            torch.diagonal_scatter(x, row[:2].expand(2, 2), -1, 1, 2),
            torch.diagonal_scatter(x, row[:2].expand(5, 2), 0, 0, 1),
            torch.diagonal_scatter(x, row[:2].expand(3, 2), 0, 2, 0),
        )

    graph = formed(along, x, row)
    assert not {node.target for node in graph.graph.nodes} & REPLACED
    for ours, theirs in zip(graph(x, row), along(x, row), strict=True):
        assert torch.equal(ours, theirs)


# -- what the exporter would lose ------------------------------------------------------------------


def test_numbers_of_a_program_are_kept():
    x = torch.tensor([0.0, 1.0], dtype=F64)

    def small(x):
        full = torch.full((2,), 0.1, dtype=F64)
        return (
            x + 1e-9,
            x * 1.000001,
            x + 0.1,
            full,
            torch.full_like(x, 0.3),
            torch.where(x > 0.5, x, 0.7),
        )

    captured = capture(lambda: small(x), check=False)
    found = answers(captured.to_onnx(), (), [])
    for ours, theirs in zip(found, small(x), strict=True):
        assert np.array_equal(ours, theirs.numpy())


def test_numbers_of_two_kinds_are_exported():
    def less(x):
        return (
            5.0 - torch.arange(3),
            2 - x,
            torch.rsub(x, 1.5, alpha=3),
            x.clamp(0.0, 16),
            x.clamp(-2),
        )

    x = torch.tensor([0.25, -3.0], dtype=F64)
    found = answers(capture(lambda: less(x), check=False).to_onnx(), (), [])
    for ours, theirs in zip(found, less(x), strict=True):
        assert np.array_equal(ours, theirs.numpy())
