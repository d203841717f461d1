"""A captured step as a package that AOTInductor makes, for devices that steps are recorded on.

Like `lowering`, for the process that compiles alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from .replay import Gated


def package(step: dict, target: Path) -> None:
    """Write a step's package.

    Args:
        step: a request, as `native.Step` makes it for a device.
    """
    device = torch.device(step["device"])
    # Whatever the program makes, numbers in its text for instance, it makes on the one device.
    scope: dict[str, Any] = {"torch": torch, "device": lambda *_, **__: device}
    scope |= {"inf": torch.inf, "nan": torch.nan}
    exec(step["code"], scope)  # our own graph, from a private folder
    forward = scope["forward"]
    whole = frozenset(i for i, given in enumerate(step["inputs"]) if given["dtype"] is None)
    gated = Gated(lambda *inputs: forward(None, *inputs), step["carried"], whole)
    inputs, dims = _stand_ins(step, device)
    program = torch.export.export(gated, inputs, dynamic_shapes={"going": None, "inputs": dims})
    settings = {"aot_inductor.compile_wrapper_opt_level": "O0"}
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(target), inductor_configs=settings
    )


def _stand_ins(step: dict, device: torch.device) -> tuple[tuple[Tensor, ...], tuple]:
    """Tensors without numbers for a step's inputs, and which of their dimensions stay open."""
    sizes, dims = step["sizes"], []
    with FakeTensorMode(shape_env=ShapeEnv()):
        inputs = [torch.ones((), dtype=torch.bool, device=device)]
        for given in step["inputs"]:
            shape = [eval(str(n), {"__builtins__": {}}, sizes) for n in given["shape"]]
            kind = torch.uint8 if given["dtype"] is None else getattr(torch, given["dtype"])
            inputs.append(torch.empty(shape, dtype=kind, device=device))
            open_ = {d: Dim.AUTO for d, n in enumerate(given["shape"]) if not n.isdigit()}
            dims.append(open_ or None)
    return tuple(inputs), tuple(dims)
