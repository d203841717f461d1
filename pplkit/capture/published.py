"""Operations that ONNX Runtime lacks, or has not well enough, by those that it has.

A graph that is to run in a page goes through this table first; what then remains in it are
operations that ONNX Runtime Web has and computes as torch does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

from . import elementary, matrices

aten = torch.ops.aten


def decompositions() -> dict[OpOverload, Callable]:
    """For each such operation a function of the same arguments, for `make_fx` and for
    `ExportedProgram.run_decompositions`.

    A function may leave an operation as it is (`NotImplemented`): a factorisation whose size is
    open, or above `matrices.LARGEST`.

    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> graph = make_fx(torch.lgamma, decomposition_table=decompositions())(torch.ones(3))
    >>> any(node.target is torch.ops.aten.lgamma.default for node in graph.graph.nodes)
    False
    """
    return dict(_TABLE)


_TABLE: dict[OpOverload, Callable] = {
    aten.log1p.default: elementary.log1p,
    aten.expm1.default: elementary.expm1,
    aten.sigmoid.default: elementary.sigmoid,
    aten.softplus.default: elementary.softplus,
    aten.log_sigmoid_forward.default: elementary.log_sigmoid,
    aten.logaddexp.default: elementary.logaddexp,
    aten.xlogy.Tensor: elementary.xlogy,
    aten.special_xlog1py.default: elementary.xlog1py,
    aten.lgamma.default: elementary.lgamma,
    aten.digamma.default: elementary.digamma,
    aten.polygamma.default: elementary.polygamma,
    aten.erfc.default: elementary.erfc,
    aten.special_erfcx.default: elementary.erfcx,
    aten.special_ndtr.default: elementary.ndtr,
    aten.special_log_ndtr.default: elementary.log_ndtr,
    aten.special_ndtri.default: elementary.ndtri,
    aten.erfinv.default: elementary.erfinv,
    aten.linalg_cholesky_ex.default: matrices.cholesky_ex,
    aten.cholesky.default: matrices.cholesky,
    aten.linalg_solve_triangular.default: matrices.solve_triangular,
    aten.triangular_solve.default: matrices.triangular_solve,
    aten.cholesky_solve.default: matrices.cholesky_solve,
    aten.cholesky_inverse.default: matrices.cholesky_inverse,
    aten.cumprod.default: matrices.cumprod,
}
