"""The fused cross-entropy for CPUs against the plain one in fp64, at sizes that are multiples of nothing."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wikigpt.model.cpu import available, unavailable_because
from wikigpt.model.cpu.cross_entropy import cross_entropy


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not available():
        pytest.skip(unavailable_because())


# rows, width, vocabulary, whether there is a bias, share of the rows without a target
SHAPES = {
    "one of everything": (1, 1, 1, False, 0.0),
    "one row": (1, 20, 300, True, 0.0),
    "odd": (65, 63, 129, True, 0.3),
    "less than a block": (64, 64, 100, False, 0.0),
    "exactly the blocks": (1024, 64, 1024, False, 0.0),
    "one row and one word too many": (513, 32, 513, True, 0.0),
    "a model's": (700, 256, 8192, False, 0.1),
    "chat": (1500, 40, 777, True, 0.95),
    "no target at all": (70, 16, 50, True, 1.0),
}

Inputs = tuple[Tensor, Tensor, Tensor, Tensor | None]


def make(rows: int, width: int, vocab: int, bias: bool, ignored: float) -> Inputs:
    """hidden, head, targets, bias, such that some targets are likely and most are not."""
    torch.manual_seed(rows + vocab)
    hidden, head = torch.randn(rows, width), torch.randn(vocab, width) * (2 / width) ** 0.5
    targets = torch.randint(0, vocab, (rows,))
    targets[::7] = (hidden @ head.T).argmax(1)[::7]
    targets[torch.rand(rows) < ignored] = -100
    return hidden, head, targets, torch.randn(vocab) if bias else None


def plain(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None) -> Tensor:
    """What the operator stands for, in the precision of its inputs, but for logits in bf16 as under autocast."""
    logits = F.linear(hidden, head, bias)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="sum")


def autocast(*inputs: Tensor | None) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return plain(*inputs)


def run(function, hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None, **options) -> list[Tensor]:
    """The loss, and 0.37 times the gradients of hidden, head and bias."""
    leaves = [None if x is None else x.detach().requires_grad_() for x in (hidden, head, bias)]
    loss = function(leaves[0], leaves[1], targets, leaves[2], **options)
    return [loss.detach(), *torch.autograd.grad(0.37 * loss, [x for x in leaves if x is not None])]


def exact(hidden: Tensor, head: Tensor, targets: Tensor, bias: Tensor | None) -> list[Tensor]:
    return run(plain, hidden.double(), head.double(), targets, None if bias is None else bias.double())


def errors(results: list[Tensor], expected: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / (b.norm() + 1e-9)) for a, b in zip(results, expected, strict=True)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fp32_gives_what_the_plain_operations_give(shape):
    inputs = make(*shape)
    assert max(errors(run(cross_entropy, *inputs, dtype=torch.float32), exact(*inputs))) < 5e-6


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bf16_is_as_exact_as_autocast(shape):
    inputs = make(*shape)
    expected = exact(*inputs)
    results = run(cross_entropy, *inputs, dtype=torch.bfloat16), run(autocast, *inputs)
    ours, theirs = (errors(x, expected) for x in results)
    # One number may be nearer by chance: half a unit of bf16 (2e-3) a logit, averaged over rows.
    assert ours[0] <= 1.5 * theirs[0] + 2e-3 / max(1, shape[0]) ** 0.5
    assert all(mine <= 1.5 * other + 1e-6 for mine, other in zip(ours[1:], theirs[1:], strict=True)), (ours, theirs)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 140),
    width=st.integers(1, 70),
    vocab=st.integers(1, 300),
    bias=st.booleans(),
    ignored=st.sampled_from([0.0, 0.5]),
    threads=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_size_by_any_number_of_threads(rows, width, vocab, bias, ignored, threads, dtype):
    inputs, before = make(rows, width, vocab, bias, ignored), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = run(cross_entropy, *inputs, dtype=dtype)
    finally:
        torch.set_num_threads(before)
    for result, expected in zip(results, exact(*inputs), strict=True):
        scale = expected.abs().max() + (0 if dtype == torch.float32 else rows**0.5)
        assert (result - expected).abs().max() <= (2e-6 if dtype == torch.float32 else 2e-2) * (scale + 1)


def test_rows_are_taken_in_pieces_when_they_are_many():
    inputs = make(1300, 600, 200, True, 0.1)
    before = torch.get_num_threads()
    many = run(cross_entropy, *inputs, dtype=torch.float32)
    torch.set_num_threads(28)  # whose shares of so wide a gradient take 64 MB for 512 rows
    try:
        pieces = run(cross_entropy, *inputs, dtype=torch.float32)
    finally:
        torch.set_num_threads(before)
    assert max(errors(pieces, [x.double() for x in many])) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_repeat_bit_for_bit(dtype):
    inputs = make(*SHAPES["a model's"])
    first, second = (run(cross_entropy, *inputs, dtype=dtype) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_without_a_target_do_not_count(dtype):
    hidden, head, targets, bias = make(*SHAPES["chat"])
    results = run(cross_entropy, hidden, head, targets, bias, dtype=dtype)
    chosen = targets != -100
    alone = run(cross_entropy, hidden[chosen], head, targets[chosen], bias, dtype=dtype)
    assert not results[1][~chosen].any()
    results[1] = results[1][chosen]
    assert all(torch.equal(a, b) for a, b in zip(results, alone, strict=True))
    unseen = hidden.masked_fill(~chosen[:, None], torch.nan)
    assert torch.equal(cross_entropy(unseen, head, targets, bias, dtype=dtype), results[0])


def test_gradients_nobody_asks_for_are_not_computed():
    hidden, head, targets, bias = make(*SHAPES["odd"])
    full = run(cross_entropy, hidden, head, targets, bias, dtype=torch.float32)
    for i, x in enumerate((hidden, head, bias)):
        x.requires_grad_()
        loss = cross_entropy(hidden, head, targets, bias, dtype=torch.float32)
        assert torch.equal(torch.autograd.grad(0.37 * loss, x)[0], full[1 + i])
        x.requires_grad_(False)


def test_any_layout_and_bf16_states_go_in():
    hidden, head, targets, _ = make(60, 24, 100, False, 0.2)
    expected = run(cross_entropy, hidden, head, targets, None, dtype=torch.bfloat16)
    turned = hidden.view(6, 10, 24).transpose(0, 1).contiguous().transpose(0, 1)
    results = run(cross_entropy, turned, head.T.contiguous().T, targets.view(6, 10), None, dtype=torch.bfloat16)
    assert results[1].shape == (6, 10, 24)
    assert all(torch.equal(a, b.view(a.shape)) for a, b in zip(results, expected, strict=True))
    halves = run(cross_entropy, hidden.bfloat16(), head, targets, None, dtype=torch.bfloat16)
    assert halves[1].dtype == torch.bfloat16
    assert halves[2].dtype == torch.float32
    assert max(errors(halves, [x.double() for x in expected])) < 5e-3


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_stays_visible(dtype, bad):
    hidden, head, targets, _ = make(100, 32, 300, False, 0.0)
    hidden[70, 3] = bad
    loss, dhidden, dhead = run(cross_entropy, hidden, head, targets, None, dtype=dtype)
    assert not loss.isfinite()
    assert dhidden[70].isnan().all()
    assert dhidden[:70].isfinite().all()
    assert dhidden[71:].isfinite().all()
    assert dhead.isnan().any()


def test_logits_of_any_size_do_not_overflow():
    hidden, head, targets, _ = make(100, 32, 300, False, 0.0)
    inputs = 300 * hidden, head, targets, None
    assert max(errors(run(cross_entropy, *inputs, dtype=torch.float32), exact(*inputs))) < 1e-3


def test_what_is_predicted_well_still_has_a_gradient():
    hidden, head = torch.eye(4, 4) * 12, torch.eye(4, 4)  # p = 1 - 2e-5, which is 1 in bf16
    inputs = hidden, head, torch.arange(4), None
    assert max(errors(run(cross_entropy, *inputs, dtype=torch.bfloat16), exact(*inputs))) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 32, 90, True, 0.2), (40, 31, 90, False, 0.0)])
def test_torch_finds_the_operator_well_made(shape, dtype):
    hidden, head, targets, bias = make(*shape)
    inputs = hidden.requires_grad_(), head.requires_grad_(), targets, bias, dtype
    torch.library.opcheck(torch.ops.wikigpt.cpu_cross_entropy.default, inputs, rtol=1e-2, atol=1e-2)


class Head(nn.Module):
    """A norm before the operator, as in the transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.RMSNorm(56), nn.Linear(56, 150)

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.norm(x), self.head.weight, targets, self.head.bias, dtype=torch.bfloat16)


def test_a_compiled_head_under_autocast_gives_what_the_eager_one_gives():
    torch.manual_seed(0)
    model, x, targets = Head(), torch.randn(2, 60, 56), torch.randint(0, 150, (2, 60))

    def gradients(function) -> list[Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = function(x, targets)
        (loss / 120).backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    eager, compiled = gradients(model), gradients(torch.compile(model, fullgraph=True))
    assert len(eager) == 4
    assert max(errors(compiled, [x.double() for x in eager])) < 2e-3


def test_inputs_that_do_not_fit_are_refused():
    hidden, head, targets, bias = make(50, 16, 30, True, 0.0)
    with pytest.raises(ValueError, match="do not fit together"):
        cross_entropy(hidden[:, :8], head, targets, dtype=torch.float32)
    with pytest.raises(ValueError, match="do not fit together"):
        cross_entropy(hidden[:49], head, targets, dtype=torch.float32)
    with pytest.raises(ValueError, match="bias"):
        cross_entropy(hidden, head, targets, bias[:8], dtype=torch.float32)
    with pytest.raises(ValueError, match="int64"):
        cross_entropy(hidden, head, targets.int(), dtype=torch.float32)
    with pytest.raises(ValueError, match="fp32 or bf16"):
        cross_entropy(hidden, head, targets, dtype=torch.float16)
    for wrong in (-1, 30, 2**40):
        with pytest.raises(ValueError, match=rf"target {wrong} \(row 20\) is not in the vocabulary of 30"):
            cross_entropy(hidden, head, targets.index_fill(0, torch.tensor([20]), wrong), dtype=torch.float32)


PROCESS = """
import torch
import torch.nn.functional as F
from wikigpt.model.cpu.cross_entropy import cross_entropy

head = torch.randn(20000, 64, requires_grad=True)

def plain(hidden, targets):
    with torch.autocast("cpu", torch.bfloat16):
        return F.cross_entropy(F.linear(hidden, head).float(), targets, reduction="sum")

def ours(hidden, targets):
    return cross_entropy(hidden, head, targets, dtype=torch.bfloat16)

def peak(function, rows):
    hidden, targets = torch.randn(rows, 64, requires_grad=True), torch.randint(0, 20000, (rows,))
    torch.autograd.grad(function(hidden, targets), [hidden, head])
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

start = max(peak(plain, 1), peak(ours, 1))
after_ours = peak(ours, 1024)
print(after_ours - start, peak(plain, 1024) - start)
"""


def test_a_step_takes_a_small_part_of_the_memory_of_the_plain_one():
    printed = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, check=True, text=True).stdout
    ours, theirs = (int(kb) for kb in printed.split())
    assert theirs > 80_000  # the logits in fp32 alone
    assert ours < 0.2 * theirs
