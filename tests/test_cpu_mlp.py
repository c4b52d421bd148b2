"""The fused norm and gated MLP for CPUs against plain operations in fp64, in every form that training uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wikigpt.model.cpu import available, unavailable_because
from wikigpt.model.cpu.mlp import norm_swiglu

EPS = 0.1  # large, so that the gradient of a single number is not zero


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not available():
        pytest.skip(unavailable_because())


# rows (as they come), width, hidden
SHAPES = {
    "one number": ((1,), 1, 1),
    "one row": ((1, 1), 64, 176),
    "exactly a panel": ((32,), 32, 32),
    "one too many everywhere": ((33,), 65, 97),
    "odd": ((3, 7), 17, 45),
    "one block of hidden units and a bit": ((2, 40), 48, 257),
    "several tiles and turns": ((3, 701), 40, 70),
    "wide": ((70,), 300, 1030),
}


def make(shape: tuple[tuple[int, ...], int, int]) -> list[Tensor]:
    """x, gain, gate, up, down, and a gradient for the output."""
    torch.manual_seed(0)
    rows, width, hidden = shape
    weights = [torch.randn(n, m) / m**0.5 for n, m in ((hidden, width), (hidden, width), (width, hidden))]
    return [torch.randn(*rows, width) * 2, torch.rand(width) + 0.5, *weights, torch.randn(*rows, width)]


def plain(x: Tensor, gain: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """What the operator stands for."""
    n = F.rms_norm(x, x.shape[-1:], gain, EPS)
    return x + F.linear(F.silu(F.linear(n, gate)) * F.linear(n, up), down)


def autocast(*inputs: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return plain(*inputs)


def in_bf16(*inputs: Tensor) -> Tensor:
    return norm_swiglu(*inputs, EPS, dtype=torch.bfloat16)


def in_fp32(*inputs: Tensor) -> Tensor:
    return norm_swiglu(*inputs, EPS, dtype=torch.float32)


def run(function, inputs: list[Tensor]) -> list[Tensor]:
    """What is added to x, and the gradients; that of x without the output's own."""
    *inputs, grad = inputs
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    dx, *others = torch.autograd.grad(y, leaves, grad)
    return [(y - inputs[0]).detach(), dx - grad, *others]


def errors(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / (b.norm() + 1e-9)) for a, b in zip(results, exact, strict=True)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_are_those_of_plain_operations(shape):
    inputs = make(shape)
    exact = run(plain, [t.double() for t in inputs])
    results = errors(run(in_fp32, inputs), exact)
    assert max(results) < 2e-5, results


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bf16_is_as_exact_as_autocast(shape):
    inputs = make(shape)
    exact = run(plain, [t.double() for t in inputs])
    ours, theirs = errors(run(in_bf16, inputs), exact), errors(run(autocast, inputs), exact)
    slack = 2e-3 if inputs[0].numel() > 1 else 2**-7  # of a single number, rounded a few times
    assert all(mine <= 1.1 * other + slack for mine, other in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.parametrize("function", [in_fp32, in_bf16])
def test_results_repeat_bit_for_bit_and_threads_only_change_the_order_of_sums(function):
    inputs, threads, results = make(SHAPES["several tiles and turns"]), torch.get_num_threads(), []
    try:
        for n in (2, 2, 1, 3):
            torch.set_num_threads(n)
            results.append(run(function, inputs))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    for other in results[2:]:
        assert torch.equal(other[0], results[0][0])
        assert max(errors(other, [t.double() for t in results[0]])) < 1e-5


def test_any_layout_and_type_goes_in():
    x, *others = make(SHAPES["odd"])
    expected = run(in_bf16, [x, *others])
    turned = [t.t().contiguous().t() if t.dim() == 2 else t for t in others]
    for result, e in zip(
        run(in_bf16, [x.transpose(0, 1).contiguous().transpose(0, 1), *turned]), expected, strict=True
    ):
        assert torch.equal(result, e)
    half = in_bf16(x.bfloat16(), *others[:4])
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, in_bf16(x.bfloat16().float(), *others[:4]).bfloat16())
    assert in_bf16(x[:0], *others[:4]).shape == x[:0].shape


def test_what_needs_no_gradient_changes_nothing_for_the_others():
    *inputs, grad = make(SHAPES["one too many everywhere"])
    leaves = [t.requires_grad_() for t in inputs]
    everything = torch.autograd.grad(in_bf16(*leaves), leaves, grad)
    for needed in ((0,), (1,), (2,), (3, 4), (0, 2, 4)):
        some = [t if i in needed else t.detach() for i, t in enumerate(leaves)]
        grads = torch.autograd.grad(in_bf16(*some), [leaves[i] for i in needed], grad)
        assert all(torch.equal(g, everything[i]) for i, g in zip(needed, grads, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("function", [in_fp32, in_bf16])
def test_what_is_not_finite_stays_visible(function, bad):
    inputs = make(((70,), 40, 50))
    inputs[0][33, 3] = bad
    y, dx, *weights = run(function, inputs)
    assert not y[33].isfinite().all()
    assert not dx[33].isfinite().all()
    assert y[:33].isfinite().all()
    assert y[34:].isfinite().all()
    assert all(w.isnan().any() for w in weights)


@pytest.mark.parametrize("function", [in_fp32, in_bf16])
def test_large_values_overflow_no_earlier_than_they_must(function):
    inputs = make(((40,), 32, 32))
    inputs[2] = inputs[2] * 1e4  # gates far beyond what exp can take
    exact = run(plain, [t.double() for t in inputs])
    results = run(function, inputs)
    assert all(t.isfinite().all() for t in results)
    assert max(errors(results[:1], exact[:1])) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_finds_the_operator_well_made(dtype):
    inputs = [t.requires_grad_() for t in make(((2, 3), 8, 10))[:5]]
    torch.library.opcheck(torch.ops.wikigpt.cpu_norm_swiglu.default, (*inputs, EPS, dtype), rtol=1e-2, atol=1e-2)


class Block(nn.Module):
    """The operator between layers, as in the transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(48))
        self.gate, self.up, self.down = nn.Linear(48, 100), nn.Linear(48, 100), nn.Linear(100, 48)
        self.head = nn.Linear(48, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = in_bf16(x * 1.5, self.gain, self.gate.weight, self.up.weight, self.down.weight)
        return self.head(y)


def test_a_compiled_block_under_autocast_gives_what_the_eager_one_gives():
    torch.manual_seed(0)
    block, x = Block(), torch.randn(2, 50, 48)

    def gradients(function) -> list[Tensor]:
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = function(x)
        y.float().square().mean().backward()
        return [y.detach().float(), *(p.grad.clone() for p in block.parameters() if p.grad is not None)]

    eager, compiled = gradients(block), gradients(torch.compile(block, fullgraph=True))
    assert len(eager) == 7
    assert max(errors(compiled, [t.double() for t in eager])) < 2e-3


def test_inputs_that_do_not_fit_are_refused():
    x, gain, gate, up, down, _ = make(((4,), 8, 10))
    for wrong in ((x[:, :7], gain, gate, up, down), (x, gain, gate, up[:9], down), (x, gain, gate, up, gate)):
        with pytest.raises(ValueError, match="do not fit together"):
            in_fp32(*wrong)
    with pytest.raises(ValueError, match="bf16 or fp32"):
        norm_swiglu(x, gain, gate, up, down, EPS, dtype=torch.float16)


PROCESS = """
import sys, torch
sys.path.insert(0, {folder!r})
from test_cpu_mlp import SHAPES, autocast, errors, in_bf16, make, plain, run
inputs = make(SHAPES["one too many everywhere"])
exact = run(plain, [t.double() for t in inputs])
for mine, other in zip(errors(run(in_bf16, inputs), exact), errors(run(autocast, inputs), exact)):
    assert mine <= 1.1 * other + 2e-3, (mine, other)
"""


def test_processors_without_tile_registers_have_it_too():
    folder = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-c", PROCESS.format(folder=folder)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
        check=True,
    )


STARVED = """
import os, resource
from pathlib import Path
import torch
from wikigpt.model.cpu.mlp import norm_swiglu

def run(hidden):
    weights = [torch.ones(hidden, 1024), torch.ones(hidden, 1024), torch.ones(1024, hidden)]
    return norm_swiglu, (torch.ones(4, 1024), torch.ones(1024), *weights, 1e-6)

function, small = run(64)
function(*small, dtype=torch.bfloat16)
_, large = run(8192)
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 30 * 10**6, resource.RLIM_INFINITY))
try:
    function(*large, dtype=torch.bfloat16)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(float(function(*large, dtype=torch.bfloat16).sum()) > 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_too_little_memory_is_an_error_that_can_be_caught():
    """The packed weights take 50 MB in bf16, where 30 are left."""
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["not enough memory for norm_swiglu_forward", "True"], done.stderr
