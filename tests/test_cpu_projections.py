"""The fused projections around attention against plain operations in fp64, in every form that training uses."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model.cpu import available, unavailable_because
from wikigpt.model.cpu.projections import norm_qkv, project_add
from wikigpt.model.transformer import rotary_angles, rotate


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not available():
        pytest.skip(unavailable_because())


EPS = 1e-6
DTYPES = [torch.float32, torch.bfloat16]

# batch, tokens, width, heads, key heads, head_dim, whether heads have norms
SHAPES = {
    "one token": (1, 1, 32, 2, 1, 16, True),
    "odd everything": (3, 37, 67, 3, 1, 10, True),
    "no norms": (2, 50, 33, 2, 2, 6, False),
    "grouped": (1, 129, 96, 6, 2, 96, True),
    "the benchmark": (2, 256, 256, 4, 4, 64, True),
    "several tiles for a thread": (3, 411, 48, 2, 1, 32, True),
    "wide": (1, 40, 1030, 2, 1, 128, False),
}


class Case:
    """Inputs of both operators for one shape, and gradients for their outputs."""

    def __init__(self, shape: tuple) -> None:
        torch.manual_seed(0)
        self.batch, self.tokens, self.width, self.heads, self.kv_heads, self.dim, norms = shape
        groups = (self.heads, self.kv_heads, self.kv_heads)
        self.x = 0.1 + 2 * torch.randn(self.batch, self.tokens, self.width)
        weights = [torch.randn(n * self.dim, self.width) / self.width**0.5 for n in groups]
        gains = [1 + 0.3 * torch.randn(self.dim) if norms else None for _ in range(2)]
        self.inputs = [self.x, 1 + 0.2 * torch.randn(self.width), *weights, *gains]
        self.angles = rotary_angles(torch.arange(self.tokens), self.dim, 10000.0)
        self.grads = [torch.randn(self.batch, self.tokens, n, self.dim).transpose(1, 2) for n in groups]
        self.y = torch.randn(self.batch, self.tokens, self.heads, self.dim).transpose(1, 2)
        self.o_weight = torch.randn(self.width, self.heads * self.dim) / (self.heads * self.dim) ** 0.5
        self.grad = torch.randn(self.batch, self.tokens, self.width)

    def qkv(self, function: Callable, dtype: torch.dtype | None, exact: bool = False) -> list[Tensor]:
        """q, k, v and the gradients of all inputs that there are."""
        kind = torch.float64 if exact else torch.float32
        inputs = [None if x is None else x.to(kind).requires_grad_() for x in self.inputs]
        angles = [x.to(kind) for x in self.angles]
        out = function(*inputs, *angles, EPS, n_heads=self.heads, n_kv_heads=self.kv_heads, dtype=dtype)
        grads = [grad.to(part.dtype) for grad, part in zip(self.grads, out, strict=True)]
        results = [*out, *torch.autograd.grad(out, [x for x in inputs if x is not None], grads)]
        return [x.detach() for x in results]

    def add(self, function: Callable, dtype: torch.dtype | None, exact: bool = False) -> list[Tensor]:
        """The sum and the gradients of y, weight, x."""
        kind = torch.float64 if exact else torch.float32
        y = self.y.to(torch.float64 if exact else dtype)
        inputs = [x.requires_grad_() for x in (y, self.o_weight.to(kind), self.x.to(kind))]
        out = function(*inputs, dtype=dtype)
        return [out.detach(), *torch.autograd.grad(out, inputs, self.grad.to(kind))]


def product(x: Tensor, weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    return F.linear(x, weight) if dtype is None else F.linear(x.to(dtype), weight.to(dtype))


def plain_norm_qkv(
    x, gain, q_weight, k_weight, v_weight, q_gain, k_gain, cos, sin, eps, *, n_heads, n_kv_heads, dtype
) -> list[Tensor]:
    """What the operator stands for, as `Attention.forward` has it; dtype None: in that of the inputs."""
    n = F.rms_norm(x, x.shape[-1:], gain, eps)
    parts = []
    for weight, heads, head_gain in (
        (q_weight, n_heads, q_gain),
        (k_weight, n_kv_heads, k_gain),
        (v_weight, n_kv_heads, None),
    ):
        part = product(n, weight, dtype).view(*x.shape[:2], heads, -1)
        if head_gain is not None:
            part = F.rms_norm(part.to(x.dtype), part.shape[-1:], head_gain, eps)
        parts.append(part.transpose(1, 2))
    return [part.to(dtype or x.dtype) for part in (rotate(parts[0], cos, sin), rotate(parts[1], cos, sin), parts[2])]


def plain_project_add(y: Tensor, weight: Tensor, x: Tensor, *, dtype: torch.dtype | None) -> Tensor:
    return x + product(y.transpose(1, 2).flatten(2), weight, dtype)


def errors(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / (b.norm() + 1e-9)) for a, b in zip(results, exact, strict=True)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_are_those_of_plain_operations(shape):
    case = Case(shape)
    for run, ours, plain in ((case.qkv, norm_qkv, plain_norm_qkv), (case.add, project_add, plain_project_add)):
        exact = run(plain, None, exact=True)
        assert max(errors(run(ours, torch.float32), exact)) < 3e-6
        mine, theirs = (errors(run(function, torch.bfloat16), exact) for function in (ours, plain))
        assert max(mine) < 0.02
        assert all(a <= 1.5 * b + 1e-4 for a, b in zip(mine, theirs, strict=True)), (mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_are_those_that_attention_reads_and_leaves(dtype):
    case = Case(SHAPES["grouped"])
    q, k, v, *grads = case.qkv(norm_qkv, dtype)
    assert all(part.dtype == dtype and part.transpose(1, 2).is_contiguous() for part in (q, k, v))
    out, dy, _, dx = case.add(project_add, dtype)
    assert out.dtype == torch.float32
    assert dy.dtype == dtype
    assert dy.transpose(1, 2).is_contiguous()
    assert torch.equal(dx, case.grad)
    case.x = case.x.transpose(0, 1).contiguous().transpose(0, 1)  # any layout goes in
    case.inputs = [case.x, *(None if w is None else w.t().contiguous().t() for w in case.inputs[1:])]
    case.y, case.grads = case.y.contiguous(), [grad.contiguous() for grad in case.grads]
    assert all(torch.equal(a, b) for a, b in zip(case.qkv(norm_qkv, dtype), [q, k, v, *grads], strict=True))
    assert torch.equal(case.add(project_add, dtype)[1], dy)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_repeat_bit_for_bit(dtype):
    case = Case(SHAPES["several tiles for a thread"])
    threads, results = torch.get_num_threads(), {}
    try:
        for n in (2, 1, 3, 2):
            torch.set_num_threads(n)
            new = [*case.qkv(norm_qkv, dtype), *case.add(project_add, dtype)]
            assert all(torch.equal(a, b) for a, b in zip(new, results.setdefault(n, new), strict=True))
    finally:
        torch.set_num_threads(threads)
    for other in (results[1], results[3]):  # sums over threads may round differently
        assert max(errors(other, [x.double() for x in results[2]])) < (1e-6 if dtype == torch.float32 else 1e-3)


def test_what_is_frozen_gets_no_gradient_and_the_others_stay_the_same():
    case = Case(SHAPES["odd everything"])
    full = case.qkv(norm_qkv, torch.float32)[3:]
    for wanted in ([0], [1], [3], [5, 6], [2, 4]):
        inputs = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(case.inputs)]
        out = norm_qkv(*inputs, *case.angles, EPS, n_heads=3, n_kv_heads=1, dtype=torch.float32)
        torch.autograd.backward(out, case.grads)
        for i, x in enumerate(inputs):
            assert torch.equal(x.grad, full[i]) if i in wanted else x.grad is None
    full = case.add(project_add, torch.float32)[1:]
    for wanted in range(3):
        inputs = [x.detach().requires_grad_(i == wanted) for i, x in enumerate((case.y, case.o_weight, case.x))]
        project_add(*inputs, dtype=torch.float32).backward(case.grad)
        for i, x in enumerate(inputs):
            assert torch.equal(x.grad, full[i]) if i == wanted else x.grad is None


def test_an_output_that_nobody_uses_has_gradient_zero():
    case = Case(SHAPES["odd everything"])
    inputs = [x.requires_grad_() for x in case.inputs]
    _, k, _ = norm_qkv(*inputs, *case.angles, EPS, n_heads=3, n_kv_heads=1, dtype=torch.float32)
    k.sum().backward()
    assert inputs[2].grad.count_nonzero() == inputs[4].grad.count_nonzero() == inputs[5].grad.count_nonzero() == 0
    assert inputs[3].grad.count_nonzero() > 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_visible_and_in_its_row(dtype, bad):
    case = Case(SHAPES["several tiles for a thread"])
    case.x[1, 70, 3] = bad
    q, k, v, dx, _, dw, *_ = case.qkv(norm_qkv, dtype)
    for part in (q, k, v):
        assert not part[1, :, 70].isfinite().all()
        assert part[1, :, :70].isfinite().all()
        assert part[1, :, 71:].isfinite().all()
    assert dx[1, 70].isnan().any()
    assert dx[0].isfinite().all()
    assert dw.isnan().any()
    case.y[1, 0, 70, 3] = bad
    out, _, dw, _ = case.add(project_add, dtype)
    assert not out[1, 70].isfinite().any()
    assert out[1, 71:].isfinite().all()
    assert not dw.isfinite().all()


def test_no_rows_are_no_trouble():
    case = Case((0, 5, 20, 2, 1, 4, True))
    q, *_, dw, dv_weight, dq_gain, dk_gain = case.qkv(norm_qkv, torch.bfloat16)
    assert q.shape == (0, 2, 5, 4)
    out, _, d_weight, _ = case.add(project_add, torch.bfloat16)
    assert out.shape == (0, 5, 20)
    assert all(x.count_nonzero() == 0 for x in (dw, dv_weight, dq_gain, dk_gain, d_weight))


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_finds_the_operators_well_made(dtype):
    case = Case((2, 20, 24, 2, 1, 8, True))
    inputs = [x.requires_grad_() for x in case.inputs]
    close = {"rtol": 1e-2, "atol": 1e-2}
    torch.library.opcheck(torch.ops.wikigpt.cpu_norm_qkv.default, (*inputs, *case.angles, EPS, 2, 1, dtype), **close)
    inputs = [case.y.to(dtype).requires_grad_(), case.o_weight.requires_grad_(), case.x]
    torch.library.opcheck(torch.ops.wikigpt.cpu_project_add.default, (*inputs, dtype), **close)


class Block(nn.Module):
    """Both operators as the transformer's block has them, with a mean for attention."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.cos, self.sin = case.heads, case.kv_heads, *case.angles
        self.weights = nn.ParameterList([*case.inputs[1:], case.o_weight])

    def forward(self, x: Tensor) -> Tensor:
        *inputs, o_weight = self.weights
        sizes = {"n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads}
        q, k, v = norm_qkv(x, *inputs, self.cos, self.sin, EPS, **sizes, dtype=torch.bfloat16)
        k, v = (part.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for part in (k, v))
        return project_add(q * k.mean(2, keepdim=True) + v, o_weight, x, dtype=torch.bfloat16)


def test_a_compiled_block_under_autocast_gives_what_the_eager_one_gives():
    case = Case((2, 30, 32, 4, 2, 16, True))
    block, x = Block(case), case.x.bfloat16()  # a stream in bf16 is converted

    def gradients(function: Callable) -> list[Tensor]:
        block.zero_grad()
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = function(leaf)
        y.backward(case.grad)
        assert y.dtype == torch.float32
        assert leaf.grad is not None
        return [y.detach(), leaf.grad, *(p.grad.clone() for p in block.parameters() if p.grad is not None)]

    eager, compiled = gradients(block), gradients(torch.compile(block, fullgraph=True))
    assert len(eager) == 9
    assert max(errors(compiled, [x.double() for x in eager])) < 1e-2


def test_inputs_that_do_not_fit_are_refused():
    case = Case(SHAPES["odd everything"])

    def call(*inputs: Tensor, dim: int = 10, dtype: torch.dtype = torch.float32) -> None:
        norm_qkv(*inputs, *(x[:, :dim] for x in case.angles), EPS, n_heads=3, n_kv_heads=1, dtype=dtype)

    x, gain, q_weight, *others = case.inputs
    with pytest.raises(ValueError, match=r"q_weight: must be fp32 \[30, 67\], not torch.float32 \[29, 67\]"):
        call(x, gain, q_weight[:-1], *others)
    with pytest.raises(ValueError, match=r"gain: must be fp32 \[67\], not torch.bfloat16"):
        call(x, gain.bfloat16(), q_weight, *others)
    with pytest.raises(ValueError, match="even head_dim, not 9"):
        call(*case.inputs, dim=9)
    with pytest.raises(ValueError, match="fp32 or bf16, not in"):
        call(*case.inputs, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"weight: must be fp32 \[67, 30\]"):
        project_add(case.y, case.o_weight.t(), case.x, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"x: must be fp32 \[3, 37, 67\]"):
        project_add(case.y, case.o_weight, case.x[:, :5], dtype=torch.float32)
