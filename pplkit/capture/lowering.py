"""The C++ of a captured step: kernels that Inductor fuses, and the loop around them.

Inductor makes a few loops over data of hundreds of operations, parameter updates included. What it
would write around them, one tensor at a time, costs more than a small model's whole step; so the
loop over the steps is written here, on buffers that are taken once.

Importing Inductor takes seconds and changes torch for the whole process, so this runs in a process
of its own (`compiling`).
"""

from __future__ import annotations

import importlib
import json
import math
import operator
import re
from typing import Any

import torch
from torch._dynamo.source import ConstantSource
from torch._functorch.compile_utils import fx_graph_cse
from torch._inductor import config, ir
from torch._inductor import lowering as inductor
from torch._inductor.codegen import common
from torch._inductor.codegen.cpp import CppKernel, CppScheduling
from torch._inductor.codegen.cpp_utils import DTYPE_TO_CPP, cexpr
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.dtype_propagation import DtypePropagationOpsHandler
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, statically_known_true


# What every step includes.
_HEADERS = "#include <torch/csrc/inductor/cpp_prefix.h>\n"
_HEADERS += "#include <complex>\n#include <cstring>\n#include <utility>\n"


class NoKernel(Exception):
    """An operation that the loop cannot hold."""


class _NoForm(Exception):
    """A form of our own does not cover these arguments."""


# -- from a graph to kernels -----------------------------------------------------------------------


class _Planned(Exception):
    """Inductor has planned a step; its plan is all that is wanted."""


class _Plan(PythonWrapperCodegen):
    @staticmethod
    def create(is_subgraph, subgraph_name, parent_wrapper, partition_signatures=None):
        return _Plan()

    def _generate(self, is_inference):
        self.run_wrapper_ir_passes(is_inference)
        raise _Planned(self)


def _in_parts(kernel: Any, reduction: str, dtype: torch.dtype, use_scalar: bool) -> bool:
    """Whether a sum is added up in parts, for its precision: whenever it may be long, as a plan
    holds for all sizes.
    """
    if reduction != "sum" or dtype != torch.float:
        return reduction == "welford_reduce"
    count = math.prod(kernel.call_ranges[kernel.reduction_depth :])
    return bool(getattr(count, "free_symbols", None)) or count > 4096


def _sorted(x: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """As Inductor's, which asks whether positions fit into 16 bits, though on a CPU it sorts by
    torch in either case.
    """
    if not x.get_size():
        return _SORT_STABLE(x, stable=stable, dim=dim, descending=descending)
    return inductor.sort_fallback(x, stable=stable, dim=dim, descending=descending)


_SORT_STABLE = inductor.sort_stable


def _upright(order: Any) -> Any:
    """In memory, columns that are fewer than a processor's lane has places lie one after the other:
    a loop over many rows then takes a lane full of them at a time.
    """

    def fill_order(buffer: ir.ComputedBuffer) -> Any:
        sizes = buffer.get_size() if isinstance(buffer.layout, ir.FlexibleLayout) else []
        dynamic = [i for i, n in enumerate(sizes) if not (isinstance(n, int) or n.is_Integer)]
        rows = max(dynamic, default=None)
        if rows is None or not 1 < math.prod(int(n) for n in sizes[rows + 1 :]) <= _NARROW:
            return order(buffer)
        return [*range(rows, -1, -1), *range(len(sizes) - 1, rows, -1)]

    return fill_order


_NARROW = 16


def planned(step: dict) -> tuple[GraphLowering, _Plan, dict]:
    """Inductor's kernels for a step, the order in which they run, and its names of the sizes."""
    mode, inputs, names = _stand_ins(step)
    scope: dict[str, Any] = {"torch": torch, "device": torch.device, "inf": torch.inf}
    exec(step["code"], {**scope, "nan": torch.nan}, scope)  # our own graph, from a private folder
    table = {**select_decomp_table(), **_DECOMPOSED}

    def run(*args):
        return scope["forward"](None, *args)

    def retraced(fn):
        return make_fx(fn, tracing_mode="symbolic", decomposition_table=table)(*inputs)

    graph = retraced(run)
    if any(_writes(node) for node in graph.graph.nodes):
        # As the gradient of `cumprod` does. What shares memory would be taken for what it was.
        graph = retraced(torch.func.functionalize(run))
    graph = torch.fx.GraphModule(graph, fx_graph_cse(graph.graph))
    with mode:
        _first_of_sorted(graph.graph)
    _mark_invariants(graph.graph)
    common.init_backend_registration()
    inductor.sort_stable = inductor.lowerings[torch.ops.aten.sort.stable] = _sorted
    CppKernel.need_use_acc_helper = _in_parts
    ir.ComputedBuffer.get_fill_order = _upright(ir.ComputedBuffer.get_fill_order)
    common.device_codegens["cpu"] = common.DeviceCodegen(CppScheduling, _Plan, None, None)
    settings = {"cpp_wrapper": False, "graph_partition": False, "size_asserts": False}
    with DebugContext(), V.set_fake_mode(mode), config.patch(settings):
        with config.patch({"cpp.threads": step["threads"]}):
            lowering = _Lowering(graph, inputs, mode.shape_env, is_inference=True)
            with V.set_graph_handler(lowering):
                lowering.run(*inputs)
                _one_for_all()
                try:
                    lowering.codegen()
                except _Planned as done:
                    return lowering, done.args[0], names
    raise NoKernel("Inductor has written no plan")


def _writes(node: torch.fx.Node) -> bool:
    """Whether an operation writes into a tensor that was there before it."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


class _Lowering(GraphLowering):
    """Inductor's, but that what is marked is computed by a loop of its own."""

    def run_node(self, n: torch.fx.Node) -> Any:
        made = super().run_node(n)
        if n.meta.get(_APART):
            made.realize()
        return made


_APART = "pplkit_apart"


def _mark_invariants(graph: torch.fx.Graph) -> None:
    """Mark what is costly and read by a loop over more than itself: fused into it, it would be
    computed anew for every lane, as C++ does not know that `exp` of a number is always the same.
    """
    costly: set[torch.fx.Node] = set()
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, torch.Tensor):
            continue
        name = getattr(node.target, "__name__", "").partition(".")[0]
        small = (n for n in node.all_input_nodes if not _grows(n, node))
        if name in _LIBM or any(n in costly for n in small):
            costly.add(node)
    for node in costly:
        if any(_grows(node, user) for user in node.users):
            node.meta[_APART] = True


def _grows(node: torch.fx.Node, user: torch.fx.Node) -> bool:
    """Whether a value is read by what is larger."""
    mine, other = node.meta.get("val"), user.meta.get("val")
    if not (isinstance(mine, torch.Tensor) and isinstance(other, torch.Tensor)):
        return False
    return statically_known_true(other.numel() > mine.numel())


_LIBM = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "sigmoid", "tanh", "sinh"}
_LIBM |= {"cosh", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "erfinv"}
_LIBM |= {"lgamma", "digamma", "special_ndtri", "special_log_ndtr", "softplus", "logaddexp"}


def _one_for_all() -> None:
    """Of this there is one object, made anew whenever it is asked for: an eighth of all time."""
    DtypePropagationOpsHandler()
    DtypePropagationOpsHandler.__init__ = lambda _: None


# Products, as a loop takes them best. Inductor's own forms look whether sizes are small, and a plan
# would hold for these sizes only.


def _by_matrix(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return torch.mm(matrix, vector.unsqueeze(1)).squeeze(1)  # BLAS is faster than a fused sum


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if statically_known_true(a.shape[1] == 1) and a.dtype == b.dtype:
        return a * b
    if statically_known_true(a.shape[0] == 1) and statically_known_true(b.shape[1] == 1):
        return (a.squeeze(0) * b.squeeze(1)).sum(0, keepdim=True).unsqueeze(0)
    return NotImplemented


def _product_and_sum(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    product = _product(a, b)
    return NotImplemented if product is NotImplemented else alpha * product + beta * x


_DECOMPOSED = {
    torch.ops.aten.mv.default: _by_matrix,
    torch.ops.aten.mm.default: _product,
    torch.ops.aten.addmm.default: _product_and_sum,
}


def _first_of_sorted(graph: torch.fx.Graph) -> None:
    """Of a permutation whose first rows alone are used, as by a subsampled plate, find those."""
    aten, pick = torch.ops.aten, operator.getitem
    for node in list(graph.nodes):
        if node.target not in (aten.sort.default, aten.sort.stable):
            continue
        given, users = node.args[0], [user for user in node.users if user.users]
        up = not node.kwargs.get("descending", False) and True not in node.args[1:]
        plain = given.meta["val"].dim() == 1 and up
        parts = [part for user in users for part in user.users]
        cuts = {part.args[1:] for part in parts if part.target is aten.slice.Tensor}
        cut = next(iter(cuts), ())
        whole = any(part.target is not aten.slice.Tensor for part in parts)
        if not plain or whole or len(cuts) != 1 or cut[:2] != (0, 0) or len(cut) != 3:
            continue
        if any(user.target is not pick or user.args[1] != 1 for user in users):
            continue
        shown = parts[0].meta["val"]
        with graph.inserting_before(parts[0]):
            first = graph.call_function(aten.topk.default, (given, cut[2], -1, False, True))
            first.meta["val"] = (given.meta["val"].new_empty(shown.shape), shown)
            rows = graph.call_function(pick, (first, 1))
            rows.meta["val"] = shown
        for part in parts:
            part.replace_all_uses_with(rows)
    graph.eliminate_dead_code()


def _stand_ins(step: dict) -> tuple[FakeTensorMode, list, dict]:
    """Tensors without numbers for a step's inputs, their sizes symbols."""
    env = ShapeEnv(specialize_zero_one=True, duck_shape=False)
    mode, sizes = FakeTensorMode(shape_env=env), {}
    for name, hint in step["sizes"].items():
        place = ConstantSource(name)
        symbol = env.create_symbol(hint, place, dynamic_dim=DimDynamic.DYNAMIC, positive=True)
        sizes[name] = env.create_symintnode(symbol, hint=hint, source=place)
    inputs = []
    with mode:
        for given in step["inputs"]:
            if given["dtype"] is None:
                inputs.append(eval(given["shape"][0], {}, sizes))
                continue
            shape = [eval(str(n), {"__builtins__": {}}, sizes) for n in given["shape"]]
            inputs.append(torch.empty(shape, dtype=getattr(torch, given["dtype"])))
    return mode, inputs, {name: size.node.expr for name, size in sizes.items()}


# -- one evaluation --------------------------------------------------------------------------------


def source(step: dict) -> str:
    """The whole of a step's C++: `step["around"]` names the module of this package that writes what
    is around its evaluation, as a function `written` of it; the loop below is written here.
    """
    lowering, plan, names = planned(step)
    around = step.get("around")
    written = loop if around is None else importlib.import_module(f".{around}", __package__).written
    with V.set_graph_handler(lowering):
        return written(Evaluation(step, lowering, plan, names))


class Evaluation:
    """The C++ of one evaluation of a captured function, for a loop to be written around it.

    `before()` is what stands in front of all functions; in one, `pieces()` follow each other in the
    order of its docstring; then `copied` and `number` are what has been computed.
    """

    def __init__(self, step: dict, lowering: GraphLowering, plan: _Plan, names: dict):
        self.step, self.lowering, self.names = step, lowering, names
        self.kernels: list[str] = []
        self.buffers: list[str] = []
        self.own: set[str] = set()  # buffers whose memory has no other name
        self.calls: list[str] = []
        self.headers = {_HEADERS}
        for line in plan.lines:
            write = getattr(self, f"write_{type(line).__name__}", None)
            if write is None:
                raise NoKernel(_named(line))
            write(line)
        self.outputs = [_layout(node) for node in lowering.graph_outputs]

    def before(self) -> str:
        """Headers, kernels, and `take`, by which `buffers` get their places."""
        includes = self.headers | set(re.findall(r"#include .*\n", "".join(self.kernels)))
        kernels = [re.sub(r"#include .*\n", "", kernel) for kernel in self.kernels]
        if any("gemm" in call for call in self.calls):
            kernels.insert(0, GEMM)
        if any("Parts<" in kernel for kernel in kernels):
            kernels.insert(0, PARTS)
        first = sorted(includes, key=lambda text: (not text.startswith("#include <torch"), text))
        return "".join(first) + "".join(kernels) + TAKE

    def pieces(self) -> dict[str, str]:
        """Statements.

        sizes: from `const int64_t* sizes`, in the order of the request.
        guards: `return -2` where the plan does not hold for these sizes.
        inputs: from `void* const* inputs`, the addresses of the inputs that are tensors; each gets
            its name of `tensors()`.
        buffers: from `char* room`, which moves on; alone, after the sizes, they tell how much room
            is needed.
        calls: the evaluation itself; `bool well` turns false when it fails.
        """
        sizes = (
            f"const int64_t {cexpr(name)} = sizes[{i}];"
            for i, name in enumerate(self.names.values())
        )
        guards = (
            f"if (!({_condition(guard.expr)})) return -2;"
            for guard in self.lowering.sizevars.shape_env.guards
        )
        inputs = (
            f"{kind}* {name} = ({kind}*) inputs[{k}];"
            for k, (_, name, kind, _) in enumerate(self.tensors())
        )
        return {
            "sizes": _lines(sizes),
            "guards": _lines(guards),
            "inputs": _lines(inputs),
            "buffers": _lines(self.buffers),
            "calls": _lines(self.calls),
        }

    # -- inputs and outputs --------------------------------------------------------------------
    def tensors(self) -> list[tuple[int, str, str, list]]:
        """Of each input that is a tensor: its position, name, type and shape."""
        names = list(self.lowering.graph_inputs)
        return [
            (i, names[i], DTYPE_TO_CPP[getattr(torch, given["dtype"])], given["shape"])
            for i, given in enumerate(self.step["inputs"])
            if given["dtype"] is not None
        ]

    def copied(self, i: int, target: str) -> str:
        """A statement that copies an output to a place, one number after the other."""
        return _copy(target, self.outputs[i])

    def number(self, i: int) -> str:
        """The first number of an output."""
        return f"{self.outputs[i].pointer}[0]"

    def owns(self, place: _Place) -> bool:
        """Whether a tensor of some size is all of a buffer that is known by one name, in order, and
        is one output alone.
        """
        stride, dense = 1, place.offset == 0
        for n, s in zip(reversed(place.size), reversed(place.stride), strict=True):
            dense, stride = dense and s == stride, stride * n
        large = not getattr(stride, "is_Integer", True) or int(stride) > _FEW
        once = [made.name for made in self.outputs].count(place.name) == 1
        return bool(dense and large and once and place.name in self.own)

    def count(self, shape: list) -> str:
        """How many numbers an input of this shape has."""
        known = {name: cexpr(symbol) for name, symbol in self.names.items()}
        words = [re.sub(r"[A-Za-z_]\w*", lambda m: known[m[0]], str(n)) for n in shape]
        return " * ".join(f"(int64_t)({w})" for w in words) or "1"

    # -- lines of the plan ---------------------------------------------------------------------
    def _nothing(self, line: Any) -> None:
        pass

    write_NullLine = write_FreeLine = write_FreeIfNotReusedLine = _nothing
    write_CommentLine = write_LineContext = _nothing

    def write_KernelDefinitionLine(self, line: Any) -> None:
        body = re.search(r"'''(.*)'''", line.kernel_body, re.S)[1]
        head = r'extern "C"\s*(?:__attribute__\(.*?\)\)\s*)?void\s+\w+\('
        body = body.replace("CascadeSumHelper<", "Parts<")
        self.kernels.append(re.sub(head, f"static void {line.kernel_name}(", body, count=1))

    def write_AllocateLine(self, line: Any) -> None:
        kind = _kind(line.node.get_dtype())
        count = cexpr(self.lowering.get_allocation_storage_size(line.node))
        place = f"take(room, sizeof({kind}) * ({count}))"
        self.buffers.append(f"{kind}* {line.node.get_name()} = ({kind}*) {place};")
        self.own.add(line.node.get_name())

    def write_ReuseLine(self, line: Any) -> None:
        kind = _kind(line.reused_as.get_dtype())
        new, old = line.reused_as.get_name(), line.node.get_name()
        self.own.discard(old)
        self.buffers.append(f"{kind}* {new} = ({kind}*) {old};")

    def write_ReinterpretLine(self, line: Any) -> None:
        place = _layout(line.layout.view)
        self.own.discard(place.name)
        kind = _kind(place.dtype)
        self.buffers.append(f"{kind}* {line.reused_as.get_name()} = ({kind}*) {place.pointer};")

    def write_SymbolicCallArgLine(self, line: Any) -> None:
        self.buffers.append(f"const int64_t {line.arg.inner} = {cexpr(line.arg.inner_expr)};")

    def write_KernelCallLine(self, line: Any) -> None:
        given = [a if isinstance(a, str) else cexpr(a) for a in line.call_args]
        self.calls.append(f"{line.kernel_name}({', '.join(given)});")

    def write_UnbackedSymbolDefsLine(self, line: Any) -> None:
        if line.unbacked_bindings:
            raise NoKernel("an operation whose result has a size that depends on numbers")

    def write_str(self, line: str) -> None:
        copy = re.fullmatch(r"(\w+)\.copy_\((\w+), False\)", line)
        if copy:
            into, made = (_layout(self.lowering.get_buffer(name)) for name in copy.groups())
            header, calls = _called(torch.ops.aten.copy_.default, {"self": into, "src": made}, {})
            self.headers.add(header)
            self.calls += calls
        elif not line.startswith(("#", "assert_")):
            raise NoKernel(line)

    def write_ExternKernelAllocLine(self, line: Any) -> None:
        node = line.node
        outs = {}
        for x in self.lowering.buffers:
            if isinstance(x, ir.MultiOutput) and x.inputs[0] is node:
                place = _layout(x)
                place.name = _result(node.get_name(), x.indices)
                outs[_position(x.indices)] = place
        if not outs and isinstance(node.get_output_spec(), ir.Layout):
            outs[0] = _layout(node)
        for place in outs.values():
            kind = _kind(place.dtype)
            room = f"take(room, {_extent(place)})"
            self.buffers.append(f"{kind}* {place.name} = ({kind}*) {room};")
        self._leave(_LEFT_TO_TORCH.get(str(node.op_overload)), outs, node)

    def _leave(self, form: Any, outs: dict, node: Any) -> None:
        """An operation by a form of our own, if there is one for it; otherwise by torch."""
        try:
            header, calls = (form or _by_torch)(outs, _given(node), node)
        except _NoForm:
            header, calls = _by_torch(outs, _given(node), node)
        self.headers.add(header)
        self.calls += calls

    def write_MultiOutputLine(self, line: Any) -> None:
        kind = _kind(self.lowering.get_buffer(line.result_name).get_dtype())
        self.buffers.append(f"{kind}* {line.result_name} = {_result(line.arg_name, line.indices)};")

    def write_ExternKernelOutLine(self, line: Any) -> None:
        node = line.node
        form, given = _PRODUCTS.get(node.get_kernel_name()), [_layout(x) for x in node.inputs]
        out = _layout(node)
        try:
            if form is None:
                raise _NoForm
            self.calls += form(out, *given, **node.kwargs)
        except _NoForm:
            self._leave(None, {0: out}, node)

    def write_IndexPutFallbackLine(self, line: Any) -> None:
        node = line.node
        x, values = (_layout(place) for place in node.inputs[:2])
        indices = [None if i is None else _layout(i) for i in line.indices]
        accumulate = bool(node.constant_args[0])
        names = {"self": x, "indices": indices, "values": values, "accumulate": accumulate}
        header, calls = _called(torch.ops.aten.index_put_.default, names, {})
        self.headers.add(header)
        self.calls += calls

    def write_ScatterFallbackLine(self, line: Any) -> None:
        node = line.node
        x, index, *rest = (_layout(place) for place in node.inputs)
        src = rest[0] if rest else node.constant_args[1]
        told = {key: value for key, value in node.kwargs.items() if value is not None}
        named = {"self": x, "dim": node.constant_args[0], "index": index}
        named |= {"src": src, "value": src, **told}
        header, calls = _called(node.op_overload, named, {})
        self.headers.add(header)
        self.calls += calls


_FEW = 16  # so many numbers are copied sooner than their places are exchanged
# A sum in parts, as torch's CascadeSumHelper; but that takes memory for each sum, which costs more
# than to add up a few numbers, and adds in memory. `whole[j]` is the sum of `2**j` parts, where the
# binary digits of their number have a one.
PARTS = """\
template <typename T, uint64_t kPart>
struct Parts {
    T top = T(0);
    uint64_t index = 0, parts = 0;
    alignas(T) char room[sizeof(T) * 52];
    explicit Parts(uint64_t = 0) {}
    T* whole() { return reinterpret_cast<T*>(room); }
    void counted() {
        if (__builtin_expect(++index == kPart, 0)) {
            index = 0;
            uint64_t j = 0;
            for (uint64_t ones = parts++; ones & 1; ones >>= 1) top = top + whole()[j++];
            whole()[j] = top;
            top = T(0);
        }
    }
};
template <typename T, uint64_t kPart>
inline T cascade_sum_combine(T& data, Parts<T, kPart>* sum) {
    sum->top = sum->top + data;
    sum->counted();
    return sum->top;
}
template <typename T, uint64_t kPart>
inline T cascade_sum_combine(T& data, int64_t tail, Parts<T, kPart>* sum) {
    sum->top = T::set(sum->top, sum->top + data, tail);
    sum->counted();
    return sum->top;
}
template <typename T, uint64_t kPart>
inline T cascade_sum_final(Parts<T, kPart>* sum) {
    T found = sum->top;
    for (uint64_t j = 0; sum->parts >> j; j++)
        if (sum->parts >> j & 1) found = found + sum->whole()[j];
    return found;
}
"""
TAKE = """\
static inline char* take(char*& room, int64_t bytes) {
    char* place = room;
    room += (bytes + 63) / 64 * 64;
    return place;
}
"""


# -- the loop over steps ---------------------------------------------------------------------------

LOOP = """
extern "C" int64_t pplkit_room(const int64_t* sizes) {{
    char* room = nullptr;
    {sizes}
    {buffers}
    return (int64_t) room;
}}

extern "C" int64_t pplkit_run(
    int64_t steps, const int64_t* sizes, void* const* inputs, char* room, void* losses
) {{
    {sizes}
    {guards}
    {inputs}
    {buffers}
    {homes}
    int64_t step = 0;
    try {{
        for (; step < steps; step++) {{
            bool well = true;
            {calls}
            if (!well || !{ok}) break;
            (({loss_type}*) losses)[step] = {loss};
            {copies}
            {onward}
        }}
    }} catch (...) {{
        step = -1;
    }}
    {back}
    return step;
}}
"""


def loop(one: Evaluation) -> str:
    """A step that is taken again and again: some outputs take the place of inputs, some inputs have
    a row for each step.
    """
    carried, rows = one.step["carried"], {*range(*one.step["noise"])}
    rows |= {*range(*one.step.get("rates", (0, 0)))}  # learning rates that follow a schedule
    homes, copies, back = _carried_on(one, one.outputs[:carried])
    onward = [f"{name} += {one.count(shape)};" for i, name, _, shape in one.tensors() if i in rows]
    written = LOOP.format(
        **one.pieces(),
        ok=one.number(carried + 1),
        homes=_lines(homes),
        copies=_lines(copies),
        back=_lines(back),
        loss_type=DTYPE_TO_CPP[one.outputs[carried].dtype],
        loss=one.number(carried),
        onward=_lines(onward),
    )
    return one.before() + written


def _carried_on(one: Evaluation, outputs: list[_Place]) -> tuple[list[str], list[str], list[str]]:
    """What a step has made takes the place of what it was made from: statements before all steps,
    after each, and after the last.
    """
    tensors, given = one.tensors(), set(one.lowering.graph_inputs)
    homes, first, then, back = [], [], [], []
    for (_, name, kind, _), made in zip(tensors, outputs, strict=False):
        if made.name == name:
            continue
        size = _bytes(made, kind)
        if made.name in given:  # another input, which may itself be about to change
            kept = f"kept_{name}"
            one.buffers.append(f"{kind}* {kept} = ({kind}*) take(room, {size});")
            first.append(_copy(kept, made))
            then.append(f"std::memcpy({name}, {kept}, {size});")
        elif one.owns(made):  # the two places change roles; the last numbers go home
            homes.append(f"{kind}* const home_{name} = {name};")
            then.append(f"std::swap({name}, {made.name});")
            back.append(f"if ({name} != home_{name}) std::memcpy(home_{name}, {name}, {size});")
        else:
            then.append(_copy(name, made))
    return homes, first + then, back


def _condition(holds: Any) -> str:
    """What the plan takes for granted about sizes, in C++."""
    import sympy

    if isinstance(holds, sympy.logic.boolalg.BooleanTrue):
        return "true"
    if isinstance(holds, sympy.Not):
        return f"!({_condition(holds.args[0])})"
    if isinstance(holds, (sympy.And, sympy.Or)):
        sign = " && " if isinstance(holds, sympy.And) else " || "
        return sign.join(f"({_condition(part)})" for part in holds.args)
    if isinstance(holds, sympy.core.relational.Relational):
        return f"({cexpr(holds.lhs)}) {holds.rel_op} ({cexpr(holds.rhs)})"
    raise NoKernel(f"the condition {holds} on sizes")


class _Place:
    """Where numbers lie: a buffer's name, an offset, sizes and strides."""

    def __init__(self, name: str, layout: Any):
        self.name, self.dtype = name, layout.dtype
        self.offset, self.size, self.stride = layout.offset, layout.size, layout.stride

    @classmethod
    def of(cls, other: _Place, size: list, stride: list) -> _Place:
        """The same place in other dimensions."""
        twin = object.__new__(cls)
        twin.name, twin.dtype, twin.offset = other.name, other.dtype, other.offset
        twin.size, twin.stride = size, stride
        return twin

    @property
    def pointer(self) -> str:
        return f"({self.name} + {cexpr(self.offset)})"


def _layout(node: Any) -> _Place:
    while isinstance(node, ir.MutableBox):
        node = node.data
    if isinstance(node, ir.ReinterpretView):
        return _Place(node.data.get_name(), node.layout)
    if not isinstance(node, ir.Buffer):
        raise NoKernel(f"an output that is no tensor: {type(node).__name__}")
    return _Place(node.get_name(), node.get_layout())


def _copy(target: str, made: _Place) -> str:
    """Copy a tensor to contiguous memory."""
    loops, at = _loops(made.size)
    return f"{loops}{target}[{at}] = {_element(made, made.size)};"


def _kind(dtype: torch.dtype) -> str:
    """What C++ calls a number's type."""
    complex_ = {torch.complex64: "std::complex<float>", torch.complex128: "std::complex<double>"}
    return complex_.get(dtype) or DTYPE_TO_CPP[dtype]


def _extent(place: _Place) -> str:
    """The bytes from a tensor's first number to its last."""
    last = [f"({cexpr(n)} - 1) * ({cexpr(s)})" for n, s in zip(place.size, place.stride)]
    return f"sizeof({_kind(place.dtype)}) * ({' + '.join([cexpr(place.offset), *last, '1'])})"


def _bytes(place: _Place, kind: str) -> str:
    """The size of a tensor's numbers."""
    return " * ".join([f"sizeof({kind})", *(f"({cexpr(n)})" for n in place.size)])


def _loops(sizes: list) -> tuple[str, str]:
    """Loops over the elements of a tensor, and the position of each in contiguous memory."""
    loops, at = "", "0"
    for d, size in enumerate(sizes):
        loops += f"for (int64_t i{d} = 0; i{d} < {cexpr(size)}; i{d}++) "
        at = f"({at}) * ({cexpr(size)}) + i{d}"
    return loops, at


def _element(x: _Place, sizes: list) -> str:
    """The element of a tensor, broadcast to `sizes`, that belongs to the loops' counters."""
    lead = len(sizes) - len(x.size)
    place = "0"
    for d, (size, stride) in enumerate(zip(x.size, x.stride, strict=True)):
        if size == sizes[lead + d]:
            place += f" + i{lead + d} * ({cexpr(stride)})"
    return f"{x.pointer}[{place}]"


def _named(line: Any) -> str:
    """The operation that a line of the plan is about."""
    node = getattr(line, "node", None)
    for name in ("python_kernel_name", "op_overload"):
        if getattr(node, name, None):
            return str(getattr(node, name))
    return type(line).__name__


def _lines(lines: Any) -> str:
    return "\n    ".join(lines)


# -- products of matrices --------------------------------------------------------------------------

GEMM = """\
extern "C" {
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*);
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*);
void sgemv_(const char*, const int*, const int*, const float*, const float*, const int*,
            const float*, const int*, const float*, float*, const int*);
void dgemv_(const char*, const int*, const int*, const double*, const double*, const int*,
            const double*, const int*, const double*, double*, const int*);
}
static inline void gemm(char ta, char tb, int m, int n, int k, float alpha, const float* a, int lda,
                        const float* b, int ldb, float beta, float* c, int ldc) {
    const int step = ta == 'N' ? lda : 1;
    if (m == 1 && n && k) {  // a matrix times a vector
        if (tb == 'N') sgemv_("T", &k, &n, &alpha, b, &ldb, a, &step, &beta, c, &ldc);
        else sgemv_("N", &n, &k, &alpha, b, &ldb, a, &step, &beta, c, &ldc);
        return;
    }
    sgemm_(&ta, &tb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}
static inline void gemm(char ta, char tb, int m, int n, int k, double alpha, const double* a,
                        int lda, const double* b, int ldb, double beta, double* c, int ldc) {
    const int step = ta == 'N' ? lda : 1;
    if (m == 1 && n && k) {
        if (tb == 'N') dgemv_("T", &k, &n, &alpha, b, &ldb, a, &step, &beta, c, &ldc);
        else dgemv_("N", &n, &k, &alpha, b, &ldb, a, &step, &beta, c, &ldc);
        return;
    }
    dgemm_(&ta, &tb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}
"""


def _operand(x: _Place) -> tuple[str, str]:
    """A matrix in memory by rows, as the transposed matrix that BLAS sees: how to turn it, and the
    distance of its columns.
    """
    rows, columns = x.stride[-2:]
    if columns == 1:
        return "N", f"std::max<int64_t>({cexpr(rows)}, {cexpr(x.size[-1])})"
    if rows == 1:
        return "T", f"std::max<int64_t>({cexpr(columns)}, {cexpr(x.size[-2])})"
    raise _NoForm


def _mm(out: _Place, a: _Place, b: _Place, at: str = "", alpha="1", beta="0") -> list[str]:
    # By columns, out is b's transpose times a's.
    (turn_a, lda), (turn_b, ldb) = _operand(a), _operand(b)
    m, n, k = cexpr(out.size[-1]), cexpr(out.size[-2]), cexpr(a.size[-1])
    shifts = [at.format(cexpr(x.stride[0])) if at else "" for x in (b, a, out)]
    pointers = [f"{x.pointer}{s}" for x, s in zip((b, a, out), shifts, strict=True)]
    turn_out, ldc = _operand(out)
    if turn_out != "N":
        raise _NoForm
    return [
        f"gemm('{turn_b}', '{turn_a}', {m}, {n}, {k}, {alpha}, {pointers[0]}, {ldb}, "
        f"{pointers[1]}, {lda}, {beta}, {pointers[2]}, {ldc});"
    ]


def _bmm(out: _Place, a: _Place, b: _Place) -> list[str]:
    call = _mm(out, a, b, at=" + batch * ({})")[0]
    return [f"for (int64_t batch = 0; batch < {cexpr(out.size[0])}; batch++) {call}"]


def _addmm(out: _Place, bias: _Place, a: _Place, b: _Place, *, alpha=1, beta=1) -> list[str]:
    rows, columns = out.size
    stride = [0] * (2 - len(bias.size)) + [
        0 if size == 1 else s for size, s in zip(bias.size, bias.stride, strict=True)
    ]
    place = " + ".join(f"i{d} * ({cexpr(s)})" for d, s in enumerate(stride))
    start = (
        f"for (int64_t i0 = 0; i0 < {cexpr(rows)}; i0++) "
        f"for (int64_t i1 = 0; i1 < {cexpr(columns)}; i1++) "
        f"{out.pointer}[i0 * ({cexpr(out.stride[0])}) + i1] = {bias.pointer}[{place}];"
    )
    return [start, *_mm(out, a, b, alpha=str(alpha), beta=str(beta))]


_PRODUCTS = {
    "extern_kernels.mm": _mm,
    "extern_kernels.bmm": _bmm,
    "extern_kernels.addmm": _addmm,
}


# -- what Inductor leaves to torch -----------------------------------------------------------------


def _position(indices: list) -> int:
    return indices[0][1] if indices else 0


def _result(name: str, indices: list) -> str:
    return f"{name}_{_position(indices)}"


def _given(node: Any) -> dict:
    """The operation's arguments by name: places in memory, numbers."""
    if node.op_overload is None:
        raise NoKernel(_named(node))
    args, kwargs = [*node.inputs, *node.constant_args], {}
    if hasattr(node, "unflatten_args"):
        args, kwargs = node.unflatten_args(node.inputs, node.constant_args)
    names = [argument.name for argument in node.op_overload._schema.arguments]
    return _placed({**dict(zip(names, args, strict=False)), **kwargs, **node.kwargs})


def _placed(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _placed(x) for name, x in given.items()}
    if isinstance(given, (list, tuple)):
        return [_placed(x) for x in given]
    return _layout(given) if isinstance(given, ir.IRNode) else given


CALL = """\
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>
static inline void sure(AOTITorchError fault) { if (fault) throw std::runtime_error("torch"); }
template <typename T> static inline StableIValue word(T value) {
    StableIValue told = 0;
    std::memcpy(&told, &value, sizeof(value));
    return told;
}
using Sizes = std::initializer_list<int64_t>;
static AtenTensorHandle seen(const void* place, Sizes sizes, Sizes strides, int32_t dtype) {
    AtenTensorHandle made;
    sure(aoti_torch_create_tensor_from_blob((void*) place, sizes.size(), sizes.begin(),
        strides.begin(), 0, dtype, aoti_torch_device_type_cpu(), 0, &made));
    return made;
}
static StableIValue listed(std::initializer_list<StableIValue> values) {
    StableListHandle made;
    sure(torch_new_list_reserve_size(values.size(), &made));
    for (StableIValue value : values) sure(torch_list_push_back(made, value));
    return word(made);
}
static StableIValue some(StableIValue value) {
    StableIValue* made;
    sure(torch_new_stable_ivalue(&made));
    *made = value;
    return word(made);
}
static StableIValue written(const char* text) {
    StringHandle made;
    sure(torch_new_string_handle(text, std::strlen(text), &made));
    return word(made);
}
static void settle(StableIValue given, AtenTensorHandle into) {
    AtenTensorHandle made;
    std::memcpy(&made, &given, sizeof(made));
    if (into) {
        sure(aoti_torch_copy_(into, made, 0));
        sure(aoti_torch_delete_tensor_object(into));
    }
    sure(aoti_torch_delete_tensor_object(made));
}
"""


def _by_torch(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    return _called(node.op_overload, given, outs)


def _called(op: Any, given: dict, outs: dict) -> tuple[str, list[str]]:
    """An operation by torch itself, on tensors that lie where ours do: right, and slow."""
    op = _functional(op)
    schema = op._schema
    try:
        words = [
            _word(given[a.name], a.real_type) if a.name in given else _unsaid(a)
            for a in schema.arguments
        ]
    except _NoForm:
        raise NoKernel(str(op)) from None
    returned = [str(r.type) for r in schema.returns]
    if any(kind != "Tensor" for kind in returned):
        raise NoKernel(str(op))
    room = max(len(words), len(returned))
    calls = [
        f"StableIValue stack[{room}] = {{{', '.join(words)}}};",
        f'sure(torch_call_dispatcher("{schema.name}", "{schema.overload_name}", stack, '
        "TORCH_ABI_VERSION));",
    ]
    for i in range(len(returned)):
        into = _seen(outs[i]) if i in outs else "nullptr"
        calls.append(f"settle(stack[{i}], {into});")
    return CALL, ["{ " + " ".join(calls) + " }"]


def _functional(op: Any) -> Any:
    """The same operation as one that returns its result."""
    into = any(argument.name == "out" for argument in op._schema.arguments)
    return op.overloadpacket.default if into and hasattr(op.overloadpacket, "default") else op


def _unsaid(argument: Any) -> str:
    if not argument.has_default_value():
        raise _NoForm
    return _word(argument.default_value, argument.real_type)


def _seen(x: _Place) -> str:
    """A tensor object that shows a place in memory."""
    shape = (f"{{{', '.join(f'(int64_t)({cexpr(n)})' for n in ns)}}}" for ns in (x.size, x.stride))
    dtype = f"aoti_torch_dtype_{str(x.dtype).removeprefix('torch.')}()"
    return f"seen({x.pointer}, {', '.join(shape)}, {dtype})"


def _word(value: Any, kind: Any) -> str:
    """An argument as torch's C interface takes it."""
    name = kind.kind()
    if name == "OptionalType":
        return "0" if value is None else f"some({_word(value, kind.getElementType())})"
    if name == "ListType":
        inner = kind.getElementType()
        return f"listed({{{', '.join(_word(x, inner) for x in value)}}})"
    if isinstance(value, _Place):
        return f"word({_seen(value)})"
    if name == "TensorType" and isinstance(value, (int, float)):
        kept = f"[] {{ static double kept = {_number(float(value))}; return &kept; }}()"
        return f"word(seen({kept}, {{}}, {{}}, aoti_torch_dtype_float64()))"
    if isinstance(value, torch.dtype):
        return f"word(aoti_torch_dtype_{str(value).removeprefix('torch.')}())"
    if name == "StringType":
        return f"written({json.dumps(value)})"
    if name == "BoolType":
        return f"word({str(bool(value)).lower()})"
    if name == "FloatType":
        return f"word((double)({_number(value)}))"
    if name in ("IntType", "SymIntType") and not isinstance(value, str):
        return f"word((int64_t)({cexpr(value)}))"
    raise _NoForm  # numbers of any kind, say: the interface has no word for them


def _number(value: Any) -> str:
    if isinstance(value, float):
        if value != value:
            return "NAN"
        return f"{'-' if value < 0 else ''}INFINITY" if abs(value) == float("inf") else repr(value)
    return cexpr(value)


def _single(function: str):
    """An operation on single numbers, by torch's own function for one."""

    def form(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
        out = outs[0]
        numbers = ", ".join(_element(x, out.size) for x in given.values())
        kind = DTYPE_TO_CPP[out.dtype]
        loops, here = _loops(out.size)[0], _element(out, out.size)
        call = f"{loops}{here} = {function}<{kind}, {kind}>({numbers});"
        return "#include <ATen/native/Distributions.h>\n", [call]

    return form


TRIANGULAR = """\
#include <vector>
template <typename T>
static void solve(T* x, int64_t xr, int64_t xc, int64_t n, int64_t m, const T* a, int64_t ar,
                  int64_t ac, const T* b, int64_t br, int64_t bc, bool upper, bool unit) {
    static thread_local std::vector<T> line;
    line.resize(n);
    T* const y = line.data();
    for (int64_t j = 0; j < m; j++) {
        for (int64_t i = 0; i < n; i++) y[i] = b[i * br + j * bc];
        for (int64_t s = 0; s < n; s++) {
            const int64_t i = upper ? n - 1 - s : s;
            const int64_t from = upper ? i + 1 : 0, to = upper ? n : i;
            if (ar != 1) {  // by rows of a
                const T* const row = a + i * ar;
                T sum = 0;
                if (ac == 1) {
                    #pragma omp simd reduction(+ : sum)
                    for (int64_t k = from; k < to; k++) sum += row[k] * y[k];
                } else {
                    for (int64_t k = from; k < to; k++) sum += row[k * ac] * y[k];
                }
                y[i] -= sum;
            }
            if (!unit) y[i] /= a[i * ar + i * ac];
            if (ar == 1) {  // by columns
                const T* const column = a + i * ac;
                const T here = y[i];
                #pragma omp simd
                for (int64_t k = upper ? 0 : i + 1; k < (upper ? i : n); k++)
                    y[k] -= column[k] * here;
            }
        }
        for (int64_t i = 0; i < n; i++) x[i * xr + j * xc] = y[i];
    }
}
"""

CHOLESKY = """\
template <typename T>
static int cholesky(T* l, int64_t lr, int64_t lc, int64_t n, const T* a, int64_t ar, int64_t ac) {
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < n; i++) {
            T& here = l[i * lr + j * lc];
            if (i < j) { here = 0; continue; }
            T rest = a[i * ar + j * ac];
            for (int64_t k = 0; k < j; k++) rest -= l[i * lr + k * lc] * l[j * lr + k * lc];
            here = i == j ? std::sqrt(rest) : rest / l[j * lr + j * lc];
        }
        if (!(l[j * lr + j * lc] > 0)) return j + 1;
    }
    return 0;
}
"""


def _matrix(x: _Place, out: _Place) -> list[str]:
    """A matrix of a stack that is broadcast to `out`'s: its address, and its two strides."""
    stack = _Place.of(x, x.size[:-2], x.stride[:-2])
    return [f"&{_element(stack, out.size[:-2])}", *(cexpr(s) for s in x.stride[-2:])]


def _solve_triangular(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    out, upper = outs[0], given["upper"]
    n, m = (cexpr(s) for s in out.size[-2:])
    x, a, b = (_matrix(place, out) for place in (out, given["self"], given["B"]))
    if not given.get("left", True):  # x a = b is a' x' = b'
        n, m, upper = m, n, not upper
        x, a, b = ([address, columns, rows] for address, rows, columns in (x, a, b))
    flags = [str(bool(f)).lower() for f in (upper, given.get("unitriangular", False))]
    call = f"solve({', '.join([*x, n, m, *a, *b, *flags])});"
    return TRIANGULAR, [_loops(out.size[:-2])[0] + call]


def _cholesky(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    out, a = outs[0], given["self"]
    if given.get("upper"):
        raise _NoForm
    call = f"cholesky({', '.join([*_matrix(out, out), cexpr(out.size[-1]), *_matrix(a, out)])});"
    if 1 in outs:
        call = f"{_element(outs[1], outs[1].size)} = {call}"
    return CHOLESKY, [_loops(out.size[:-2])[0] + call]


def _all_factored(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    """Where there is no Cholesky factor the step has failed."""
    info = given["info"]
    return "", [f"{_loops(info.size)[0]}if ({_element(info, info.size)}) well = false;"]


SORT = """\
#include <algorithm>
#include <cmath>
#include <numeric>
template <typename T>
static void sort(T* x, int64_t xs, int64_t* place, int64_t ps, const T* a, int64_t as, int64_t n,
                 bool descending) {
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
        const T left = descending ? a[j * as] : a[i * as];
        const T right = descending ? a[i * as] : a[j * as];
        return left < right || (std::isnan(right) && !std::isnan(left));
    });
    for (int64_t i = 0; i < n; i++) {
        x[i * xs] = a[order[i] * as];
        place[i * ps] = order[i];
    }
}
"""


def _along(dim: int, *places: _Place) -> tuple[str, list[str]]:
    """Loops over all lines of tensors along a dimension; and of each line its start and stride."""
    d = dim % max(1, len(places[0].size))
    others = [i for i in range(len(places[0].size)) if i != d]
    lines = []
    for x in places:
        rest = _Place.of(x, [x.size[i] for i in others], [x.stride[i] for i in others])
        lines.append(f"&{_element(rest, rest.size)}, {cexpr(x.stride[d]) if x.size else '1'}")
    length = cexpr(places[0].size[d]) if places[0].size else "1"
    return _loops([places[0].size[i] for i in others])[0], [*lines, length]


def _sort(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    loops, lines = _along(given.get("dim", -1), outs[0], outs[1], given["self"])
    down = str(bool(given.get("descending", False))).lower()
    return SORT, [f"{loops}sort({', '.join([*lines, down])});"]


SMALLEST = """\
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>
template <typename T>
static void smallest(T* x, int64_t xs, int64_t* place, int64_t ps, const T* a, int64_t as,
                     int64_t n, int64_t k) {
    using Found = std::pair<T, int64_t>;
    const auto before = [](const Found& l, const Found& r) {
        if (std::isnan(l.first) || std::isnan(r.first))
            return std::isnan(l.first) == std::isnan(r.first) ? l.second < r.second
                                                             : std::isnan(r.first);
        return l < r;
    };
    std::vector<Found> best;
    best.reserve(k);
    for (int64_t i = 0; i < k; i++) best.emplace_back(a[i * as], i);
    std::make_heap(best.begin(), best.end(), before);
    for (int64_t i = k; i < n && k; i++) {
        const Found here(a[i * as], i);
        if (!before(here, best.front())) continue;
        std::pop_heap(best.begin(), best.end(), before);
        best.back() = here;
        std::push_heap(best.begin(), best.end(), before);
    }
    std::sort_heap(best.begin(), best.end(), before);
    for (int64_t i = 0; i < k; i++) {
        x[i * xs] = best[i].first;
        place[i * ps] = best[i].second;
    }
}
"""


def _topk(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
    a = given["self"]
    if given.get("largest", True) or len(a.size) != 1 or not a.dtype.is_floating_point:
        raise _NoForm
    lines = [f"{x.pointer}, {cexpr(x.stride[0])}" for x in (outs[0], outs[1], a)]
    return SMALLEST, [f"smallest({', '.join([*lines, cexpr(a.size[0]), cexpr(outs[0].size[0])])});"]


RUNNING = """\
template <typename T, typename S>
static void running_sum(T* x, int64_t xs, const S* a, int64_t as, int64_t n) {
    T total = 0;
    for (int64_t i = 0; i < n; i++) x[i * xs] = total += a[i * as];
}
template <typename T, typename S>
static void running_product(T* x, int64_t xs, const S* a, int64_t as, int64_t n) {
    T total = 1;
    for (int64_t i = 0; i < n; i++) x[i * xs] = total *= a[i * as];
}
"""


def _running(function: str):
    def form(outs: dict, given: dict, node: Any) -> tuple[str, list[str]]:
        loops, lines = _along(given["dim"], outs[0], given["self"])
        return RUNNING, [f"{loops}{function}({', '.join(lines)});"]

    return form


_LEFT_TO_TORCH = {
    "aten._standard_gamma_grad.default": _single("standard_gamma_grad_one"),
    "aten._dirichlet_grad.default": _single("dirichlet_grad_one"),
    "aten.linalg_solve_triangular.default": _solve_triangular,
    "aten.linalg_cholesky_ex.default": _cholesky,
    "aten.sort.stable": _sort,
    "aten.topk.default": _topk,
    "aten.cumsum.default": _running("running_sum"),
    "aten.cumprod.default": _running("running_product"),
    "aten._linalg_check_errors.default": _all_factored,
}
