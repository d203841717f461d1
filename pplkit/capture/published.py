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


def translations() -> dict[OpOverload, Callable]:
    """ONNX for operations that torch's exporter rounds to single precision: a number written in a
    program would otherwise keep seven digits in double precision too. For `torch.onnx.export`.

    >>> sorted(operation.name() for operation in translations())
    ['aten::full', 'aten::full_like', 'aten::scalar_tensor']
    """
    import onnx_ir
    from onnxscript import opset20 as onnx

    def number(value, dtype: int):
        if isinstance(value, (bool, int, float)):
            kind = onnx_ir.DataType(dtype if dtype != -1 else onnx_ir.DataType.FLOAT)
            return onnx.Constant(value=onnx_ir.tensor(value, dtype=kind))
        return value if dtype == -1 else onnx.Cast(value, to=dtype)

    def scalar_tensor(
        s, dtype: int = -1, layout: str = "", device: str = "", pin_memory: bool = False
    ):
        return number(s, dtype)

    def full(
        size, fill_value, dtype: int = -1, layout: str = "", device: str = "",
        pin_memory: bool = False,
    ):  # fmt: skip
        return onnx.Expand(number(fill_value, dtype), onnx.Cast(size, to=onnx_ir.DataType.INT64))

    def full_like(
        self, fill_value, dtype: int = -1, layout: str = "", device: str = "",
        pin_memory: bool = False, memory_format: str = "",
    ):  # fmt: skip
        value = number(fill_value, self.dtype if dtype == -1 else dtype)
        return onnx.Expand(value, onnx.Shape(self))

    return {
        aten.scalar_tensor.default: scalar_tensor,
        aten.full.default: full,
        aten.full_like.default: full_like,
    }


def simplified(model):
    """An ONNX model with its constants folded and nothing twice; in place.

    The exporter's own way of doing so takes `x + 1e-9` for `x`, and `x * 1.000001` too.
    """
    import onnx_ir
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    for _ in range(2):
        fold_constants(model, onnx_shape_inference=True)
        common.RemoveUnusedNodesPass()(model)
    passes = (
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )
    return onnx_ir.passes.Sequential(*passes)(model).model


_TABLE: dict[OpOverload, Callable] = {
    aten.log1p.default: elementary.log1p,
    aten.expm1.default: elementary.expm1,
    aten.sigmoid.default: elementary.sigmoid,
    aten.softplus.default: elementary.softplus,
    aten.log_sigmoid_forward.default: elementary.log_sigmoid,
    # Other forms lead to these: the loss of a Bernoulli's logits, for one.
    aten.log_sigmoid.default: lambda x: elementary.log_sigmoid(x)[0],
    aten.special_erf.default: elementary.erf,
    aten.special_erfc.default: elementary.erfc,
    aten.special_expm1.default: elementary.expm1,
    aten.logaddexp.default: elementary.logaddexp,
    aten.xlogy.Tensor: elementary.xlogy,
    aten.rsub.Scalar: elementary.rsub,
    aten.clamp.default: elementary.clamp,
    aten.pow.Tensor_Scalar: elementary.power,
    aten.hypot.default: elementary.hypot,
    aten.special_xlog1py.default: elementary.xlog1py,
    aten.lgamma.default: elementary.lgamma,
    aten.digamma.default: elementary.digamma,
    aten.polygamma.default: elementary.polygamma,
    aten.erfc.default: elementary.erfc,
    aten.special_erfcx.default: elementary.erfcx,
    aten.special_log_ndtr.default: elementary.log_ndtr,
    aten.special_ndtri.default: elementary.ndtri,
    aten.erfinv.default: elementary.erfinv,
    aten.erf.default: elementary.erf,
    aten.igamma.default: elementary.igamma,
    aten.igammac.default: elementary.igammac,
    aten._standard_gamma_grad.default: elementary.standard_gamma_grad,
    aten.special_i0e.default: elementary.i0e,
    aten.special_i1e.default: elementary.i1e,
    aten.i0.default: elementary.i0,
    aten.special_i1.default: elementary.i1,
    **{
        getattr(aten, name).default: getattr(elementary, name)
        for name in (
            "tan",
            "atan",
            "atan2",
            "asin",
            "acos",
            "sinh",
            "cosh",
            "asinh",
            "acosh",
            "atanh",
        )
    },
    aten._cdist_forward.default: matrices.cdist,
    aten.mv.default: matrices.mv,
    aten.linalg_cholesky_ex.default: matrices.cholesky_ex,
    aten.cholesky.default: matrices.cholesky,
    aten.linalg_solve_triangular.default: matrices.solve_triangular,
    aten.triangular_solve.default: matrices.triangular_solve,
    aten.cholesky_solve.default: matrices.cholesky_solve,
    aten.cholesky_inverse.default: matrices.cholesky_inverse,
    aten.linalg_lu_factor_ex.default: matrices.lu_factor_ex,
    aten.linalg_lu_solve.default: matrices.lu_solve,
    aten._linalg_solve_ex.default: matrices.solve_ex,
    aten.linalg_inv_ex.default: matrices.inv_ex,
    aten._linalg_det.default: matrices.det,
    aten._linalg_slogdet.default: matrices.slogdet,
    aten.diagonal_scatter.default: matrices.diagonal_scatter,
    aten.cumprod.default: matrices.cumprod,
    aten.logcumsumexp.default: matrices.logcumsumexp,
    aten.cummax.default: matrices.cummax,
    aten.cummin.default: matrices.cummin,
    aten.median.default: matrices.median,
    aten.median.dim: matrices.median_of,
    aten.searchsorted.Tensor: matrices.searchsorted,
    aten.bucketize.Tensor: matrices.bucketize,
}
