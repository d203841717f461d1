"""Which family is live in a published page, in density, distribution function, draw and gradient.

Each is captured, made ONNX, and run by ONNX Runtime at sizes it was not captured with; live is
what then agrees with torch. The outcome is kept in `families.json`, from which the book's page is
made; a test holds it true. `python -m tests.capture.families` writes it anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pplkit.capture import capture
from tests.engine.distribution_cases import CASES

RECORD = Path(__file__).resolve().parent / "families.json"
ASPECTS = ("density", "cdf", "draw", "gradient")
# As close as a published figure has to be to torch.
CLOSE = 1e-4


def build(case, params):
    fixed = {
        name: value.float() if isinstance(value, torch.Tensor) else value
        for name, value in case.fixed.items()
    }
    return case.family(**fixed, **params)


def density(case):
    return lambda params, value: build(case, params).log_prob(value)


def cdf(case):
    return lambda params, value: build(case, params).cdf(value)


def draw(case):
    def drawn(params, value):
        made = build(case, params)
        return (made.rsample if made.has_rsample else made.sample)((value.shape[0],))

    return drawn


def gradient(case):
    """Of the summed density, in all parameters and in the value, unless that counts."""
    discrete = build(case, case.tensors(torch.float32)).is_discrete

    def slopes(params, value):
        def total(params, value):
            return build(case, params).log_prob(value).sum()

        if discrete:
            return torch.func.grad(total)(params, value)
        return torch.func.grad(total, argnums=(0, 1))(params, value)

    return slopes


def arguments(case, rows: int):
    """Parameters in single precision, moved a little from row to row, and draws."""
    params = case.tensors(torch.float32)
    torch.manual_seed(rows)
    return params, build(case, params).sample((rows,))


def outcome(case, aspect: str, rows: tuple[int, ...] = ()) -> dict:
    """`live` with the bytes of its model; or `no form`, where the family has none itself; or what
    is amiss.

    Args:
        rows: numbers of draws to compare at, sizes being open; none of them: at four, with
            everything closed over, which is many times quicker to make.
    """
    fn, example = globals()[aspect](case), arguments(case, 4)
    try:
        fn(*example)
    except NotImplementedError:
        return {"is": "no form"}
    if rows:
        captured = capture(fn, *example, check=False)
        given = [arguments(case, n) for n in rows]
    else:
        captured, given = capture(lambda: fn(*example), check=False), [()]
    model = captured.to_onnx()
    gap = max(difference(captured, model, args) for args in given)
    if not gap <= CLOSE:
        return {"is": "apart", "by": gap}
    return {"is": "live", "bytes": len(model.model_bytes)}


def difference(captured, model, given) -> float:
    """Between ONNX Runtime and torch, on one noise."""
    noise = captured.draw_noise(*given, seed=1)
    expected = captured(*given, noise=noise)
    return worst(answers(model, given, noise), torch.utils._pytree.tree_leaves(expected))


def answers(model, given, noise) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        model.model_bytes, options, providers=["CPUExecutionProvider"]
    )
    feed = {}
    for entry in model.inputs:
        if entry["kind"] == "noise":
            feed[entry["name"]] = noise[entry["draw"]]
        elif entry["kind"] == "closed":
            feed[entry["name"]] = model.closed[entry["name"]]
        else:
            first, *rest = entry["path"]
            feed[entry["name"]] = given[0][rest[0]] if first == "params" else given[1]
    return session.run(None, {name: x.numpy() for name, x in feed.items()})


def worst(ours: list[np.ndarray], theirs: list[torch.Tensor]) -> float:
    """The largest difference, in units of one more than the value."""
    gaps = [0.0]
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.astype(np.float64), b.detach().double().numpy()
        if a.shape != b.shape:
            return np.inf
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            gap = np.where(alike, 0.0, np.abs(a - b) / (1 + np.abs(b)))
        gaps.append(float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
    return max(gaps)


def families() -> list:
    """One case of each family."""
    first: dict = {}
    for case in CASES:
        first.setdefault(case.name, case)
    return list(first.values())


def main(names: list[str]) -> None:
    """What is not yet in the record; all of the families named."""
    found = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for aspect in ASPECTS:
        for case in families():
            known = found.setdefault(case.name, {})
            if aspect in known and case.name not in names:
                continue
            try:
                known[aspect] = outcome(case, aspect)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as fault:
                why = f"{type(fault).__name__}: {fault}".partition("\n")[0]
                known[aspect] = {"is": "refused", "why": why}
            print(case.name, aspect, *known[aspect].values(), flush=True)
            RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
