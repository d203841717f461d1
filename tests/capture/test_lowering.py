"""Operations in native code: each gives what torch gives."""

import pytest
import torch
from torch.nn import functional

from pplkit.capture import capture, native
from pplkit.capture.program import _inputs
from pplkit.distributions import constraints, transform_to


def real(z):
    """A complex result as numbers that can be compared."""
    return torch.view_as_real(z).clone()


def narrow(x, *few):
    """Rows as many as there are numbers, each of a few columns."""
    columns = torch.linspace(-1, 2, few[-1]).to(x) * torch.ones(few).to(x)
    return (x.reshape(-1, *[1] * len(few)) - columns).exp()


OPERATIONS = {
    # a few columns, which lie one after the other in memory
    "narrow": lambda x, m, k: narrow(x, 3) / narrow(x, 3).sum(0),
    "narrow logsumexp": lambda x, m, k: narrow(x, 3).logsumexp(-1),
    "narrow product": lambda x, m, k: narrow(x, 3) @ narrow(x, 3).mT,
    "narrow product with few": lambda x, m, k: narrow(x, 3).softmax(-1) @ m[:3, :2],
    "narrow in a row": lambda x, m, k: narrow(x, 3).softmax(-1).reshape(-1).cumsum(0),
    "narrow running": lambda x, m, k: narrow(x, 3).softmax(0).cumsum(1),
    "narrow sorted": lambda x, m, k: narrow(x, 3).softmax(-1).sort(dim=0).values,
    "narrow picked": lambda x, m, k: narrow(x, 3).softmax(-1)[k, k % 3],
    "narrow turned": lambda x, m, k: narrow(x, 3).log_softmax(0).mT.contiguous(),
    "narrow matrices": lambda x, m, k: narrow(x, 2, 3) @ narrow(x, 2, 3).softmax(-1).mT,
    "narrow stacks": lambda x, m, k: narrow(x, 2, 3).softmax(0).sum(1),
    # running and sorted
    "logcumsumexp": lambda x, m, k: x.logcumsumexp(0),
    "cumsum": lambda x, m, k: x.cumsum(0),
    "cumprod": lambda x, m, k: x.cumprod(0),
    "cummax": lambda x, m, k: x.cummax(0).values,
    "sort": lambda x, m, k: x.sort(descending=True).values,
    "topk": lambda x, m, k: x.topk(2).values,
    "kthvalue": lambda x, m, k: x.kthvalue(2).values,
    "median": lambda x, m, k: x.median(),
    "searchsorted": lambda x, m, k: torch.searchsorted(x.sort().values, x.cos()),
    "bucketize": lambda x, m, k: torch.bucketize(x, x.new_tensor([-1.0, 0.0, 1.0])),
    # positions
    "gather": lambda x, m, k: x.gather(0, k),
    "scatter": lambda x, m, k: torch.zeros_like(x).scatter(0, k, x.exp()),
    "scatter a number": lambda x, m, k: torch.zeros_like(x).scatter(0, k, 2.0),
    "scatter_add": lambda x, m, k: torch.zeros_like(x).scatter_add(0, k, x),
    "scatter_reduce": lambda x, m, k: torch.ones_like(x).scatter_reduce(0, k, x, "amax"),
    "index_put": lambda x, m, k: torch.zeros_like(x).index_put((k,), x.sum(), accumulate=True),
    "index_add": lambda x, m, k: torch.zeros_like(x).index_add(0, k, x),
    "index": lambda x, m, k: x[k] * 2,
    "embedding": lambda x, m, k: functional.embedding(k, m.mT[0][:, None] * x),
    "take_along_dim": lambda x, m, k: torch.take_along_dim(x, k),
    "one_hot": lambda x, m, k: functional.one_hot(k % 3, 3),
    "roll and flip": lambda x, m, k: x.roll(2).flip(0),
    "where": lambda x, m, k: torch.where(x > 0, x.sqrt(), x.exp()),
    # products
    "mm": lambda x, m, k: m @ m.mT,
    "addmm": lambda x, m, k: torch.addmm(m[0], m, m.mT),
    "mv": lambda x, m, k: m @ m[0],
    "outer": lambda x, m, k: torch.outer(x, x),
    "bmm": lambda x, m, k: torch.stack([m, 2 * m]) @ m,
    "einsum": lambda x, m, k: torch.einsum("ij,jk,k->i", m, m, m[1]),
    "a product with gaps": lambda x, m, k: torch.stack([m, m], -1)[..., 0] @ m,
    "linear": lambda x, m, k: functional.linear(m, m, m[0]),
    "conv1d": lambda x, m, k: functional.conv1d(x[None, None], m[None, :1, :3]),
    "conv2d": lambda x, m, k: functional.conv2d(m[None, None], m[None, None, :2, :2]),
    # linear algebra
    "cholesky": lambda x, m, k: torch.linalg.cholesky(m @ m.mT),
    "upper cholesky": lambda x, m, k: torch.linalg.cholesky(m @ m.mT, upper=True),
    "solve_triangular": lambda x, m, k: torch.linalg.solve_triangular(m.tril(), m, upper=False),
    "cholesky_solve": lambda x, m, k: torch.cholesky_solve(m, m.tril()),
    "cholesky_inverse": lambda x, m, k: torch.cholesky_inverse(m.tril()),
    "inverse": lambda x, m, k: torch.linalg.inv(m),
    "solve": lambda x, m, k: torch.linalg.solve(m, m[0]),
    "determinant": lambda x, m, k: torch.linalg.det(m),
    "logdet": lambda x, m, k: (m @ m.mT).logdet(),
    "slogdet": lambda x, m, k: torch.linalg.slogdet(m).logabsdet,
    "qr": lambda x, m, k: torch.linalg.qr(m).R.abs(),
    "eigh": lambda x, m, k: torch.linalg.eigh(m @ m.mT).eigenvalues,
    "eigvalsh": lambda x, m, k: torch.linalg.eigvalsh(m @ m.mT),
    "svd": lambda x, m, k: torch.linalg.svdvals(m),
    "matrix_exp": lambda x, m, k: torch.linalg.matrix_exp(m / 9),
    "lstsq": lambda x, m, k: torch.linalg.pinv(m),
    # Fourier
    "fft": lambda x, m, k: real(torch.fft.fft(x)),
    "rfft": lambda x, m, k: real(torch.fft.rfft(x)),
    "irfft": lambda x, m, k: torch.fft.irfft(torch.fft.rfft(x) * 2, n=x.shape[0]),
    "fft2": lambda x, m, k: torch.fft.fft2(m).abs(),
    # elementary and special functions
    "lgamma": lambda x, m, k: x.exp().lgamma() + x.exp().digamma(),
    "polygamma": lambda x, m, k: torch.polygamma(1, x.exp()),
    "erfinv": lambda x, m, k: (x / 9).erfinv() + x.erfc(),
    "bessel": lambda x, m, k: torch.special.i0e(x) + torch.special.i1e(x),
    "igamma": lambda x, m, k: torch.special.gammainc(x.exp(), x.exp() + 1),
    "ndtri": lambda x, m, k: torch.special.ndtri(x.sigmoid()) + torch.special.log_ndtr(x),
    "nan_to_num": lambda x, m, k: x.log().nan_to_num(0.0),
    "logsumexp": lambda x, m, k: m.logsumexp(1),
    "softmax": lambda x, m, k: m.softmax(0).log_softmax(1),
    "pool": lambda x, m, k: functional.max_pool1d(x[None], 2),
    "interpolate": lambda x, m, k: functional.interpolate(x[None, None], scale_factor=2),
}


def natively(functions, args):
    """All functions' results, by one native program; their results by torch."""

    def step(carried, args):
        made = [function(*args) for function in functions]
        return made, torch.zeros(()), torch.ones((), dtype=torch.bool)

    expected = [function(*args) for function in functions]
    carried = [torch.zeros_like(x).contiguous() for x in expected]
    captured = capture(step, carried, args, check=False)
    program, leaves, sizes = captured._program_for((carried, args))
    made = native.Step(program, len(carried), sizes)
    loop = native.found(made) or native.Compilation(made).loop()
    inputs = [x.contiguous() for x in _inputs(program, leaves)]
    closed = [x.contiguous() for x in captured._closed(program)]
    assert loop.run(1, sizes, [*inputs, *closed], torch.empty(1)) == 1
    return inputs[: len(carried)], expected


def example(n):
    stream = torch.Generator().manual_seed(n)
    x, m = (torch.randn(*shape, generator=stream, dtype=torch.float64) for shape in ([n], [n, n]))
    return x, m, torch.randint(n, [n], generator=stream)


@pytest.mark.parametrize("n", [6, pytest.param(11, marks=pytest.mark.long)])
def test_every_operation(n):
    found, expected = natively(list(OPERATIONS.values()), example(n))
    for name, ours, theirs in zip(OPERATIONS, found, expected, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def slope(function):
    def total(x, m, k):
        made = function(x, m, k)
        weights = torch.arange(made.numel(), dtype=made.dtype).cos()
        return (made.reshape(-1) * weights).sum()

    return torch.func.grad(total)


def in_place(x):
    twice = 2 * x
    view = twice[1:]
    view.mul_(2.0)
    twice[0] = x.sum()
    return twice.clamp_(max=3.0) + view.sum()


WRITING = {  # the gradients of these, or they themselves, write into tensors of their own
    "cumprod": slope(lambda x, m, k: x.cumprod(0)),
    "cumprod of a zero": slope(lambda x, m, k: torch.cat([x[:2], x[2:] * 0]).cumprod(0)),
    "cumprod of rows": slope(lambda x, m, k: narrow(x, 3).softmax(-1).cumprod(-1)),
    "stick-breaking": slope(lambda x, m, k: transform_to(constraints.simplex)(x)),
    "correlations": slope(lambda x, m, k: transform_to(constraints.corr_cholesky)(x)),
    "ordered": slope(lambda x, m, k: transform_to(constraints.ordered_vector)(x)),
    "cummax": slope(lambda x, m, k: x.cummax(0).values),
    "prod": slope(lambda x, m, k: m.prod(1)),
    "index_put": slope(lambda x, m, k: torch.zeros_like(x).index_put((k,), x, accumulate=True)),
    "norm": slope(lambda x, m, k: torch.linalg.vector_norm(x[:, None] - m, dim=0)),
    "median": slope(lambda x, m, k: x.exp().median()),
    "sort": slope(lambda x, m, k: x.sort(descending=True).values),
    "in place": lambda x, m, k: in_place(x),
    "slope of in place": slope(lambda x, m, k: in_place(x)),
}


def test_operations_that_write():
    found, expected = natively(list(WRITING.values()), example(6))
    for name, ours, theirs in zip(WRITING, found, expected, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )
