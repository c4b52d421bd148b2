"""The fused attention for CPUs against masked softmax attention in fp64, in every form that training uses."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from wikigpt.model.cpu import attention, available, unavailable_because


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not available():
        pytest.skip(unavailable_because())


# batch, heads, key heads, tokens, head_dim, mean length of a document
SHAPES = {
    "one token": (1, 1, 1, 1, 64, 5),
    "shorter than a block": (1, 2, 1, 33, 20, 1000),
    "exactly a block": (2, 2, 2, 64, 64, 10),
    "one key too many": (1, 4, 2, 129, 32, 20),
    "short documents": (1, 6, 2, 77, 96, 2),
    "documents longer than a block": (2, 4, 4, 512, 64, 200),
    "wide heads": (1, 2, 2, 300, 128, 50),
    "an odd width": (1, 2, 1, 70, 63, 30),
    "long": (1, 1, 1, 2048, 64, 10**9),
}


def make(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v as views of projections, first keys, and a gradient for the output."""
    torch.manual_seed(0)
    batch, heads, kv_heads, tokens, dim, document = shape
    q, k, v, grad = (
        torch.randn(batch, tokens, n, dim).to(dtype).transpose(1, 2) for n in (heads, kv_heads, kv_heads, heads)
    )
    starts = torch.rand(batch, tokens) < 1 / document
    first_key = torch.where(starts, torch.arange(tokens), 0).cummax(1).values.int()
    return q, k, v, first_key, grad


def plain(q: Tensor, k: Tensor, v: Tensor, first_key: Tensor) -> Tensor:
    """What the operator stands for, in the precision of its inputs."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    rows = torch.arange(q.shape[2])
    visible = (rows <= rows[:, None]) & (rows >= first_key[:, None, :, None])
    scores = (q / math.sqrt(q.shape[3])) @ k.transpose(-1, -2)
    weights = scores.to(torch.promote_types(q.dtype, torch.float32)).masked_fill(~visible, -torch.inf).softmax(-1)
    return weights.to(v.dtype) @ v


def run(function, q: Tensor, k: Tensor, v: Tensor, first_key: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, dq, dk, dv."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    y = function(q, k, v, first_key)
    return [y.detach(), *torch.autograd.grad(y, (q, k, v), grad)]


def errors(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / (b.norm() + 1e-9)) for a, b in zip(results, exact, strict=True)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outputs_and_gradients_are_those_of_softmax_attention(shape):
    q, k, v, first_key, grad = make(shape, torch.float32)
    exact = run(plain, *(x.double() for x in (q, k, v)), first_key, grad.double())
    ours = run(attention, q, k, v, first_key, grad)
    for result, expected in zip(ours, exact, strict=True):
        assert (result - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bf16_is_as_exact_as_plain_operations(shape):
    q, k, v, first_key, grad = make(shape, torch.bfloat16)
    exact = run(plain, *(x.double() for x in (q, k, v)), first_key, grad.double())
    ours, theirs = (errors(run(f, q, k, v, first_key, grad), exact) for f in (attention, plain))
    assert all(mine <= 1.02 * other + 1e-4 for mine, other in zip(ours, theirs, strict=True)), (ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_layout_goes_in_and_the_output_needs_no_copy(dtype):
    q, k, v, first_key, grad = make(SHAPES["one key too many"], dtype)
    expected = run(attention, q, k, v, first_key, grad)
    assert expected[0].transpose(1, 2).is_contiguous()
    dense = [x.contiguous() for x in (q, k, v)]
    turned = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
    batch, heads, tokens, dim = q.shape
    fused = torch.randn(batch, tokens, heads + 2 * k.shape[1], dim + 1).to(dtype)  # rows at odd addresses
    parts = [x.transpose(1, 2)[..., :dim] for x in fused.split([heads, k.shape[1], k.shape[1]], dim=2)]
    for part, x in zip(parts, (q, k, v), strict=True):
        part.copy_(x)
    for inputs in (dense, turned, parts):
        results = run(attention, *inputs, first_key, grad.contiguous())
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_repeat_bit_for_bit_whatever_the_threads(dtype):
    inputs = make(SHAPES["documents longer than a block"], dtype)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (2, 2, 1, 3):
            torch.set_num_threads(n)
            results.append(run(attention, *inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_document_does_not_notice_its_neighbours():
    q, k, v, _, _ = make((1, 2, 1, 300, 64, 1), torch.bfloat16)
    first_key = torch.where(torch.arange(300) < 130, 0, 130).int()[None]
    alone = attention(q, k, v, first_key)
    k, v = k.clone(), v.clone()
    k[:, :, :130], v[:, :, :130] = 9, -9
    assert torch.equal(attention(q, k, v, first_key)[:, :, 130:], alone[:, :, 130:])
    assert not torch.equal(attention(q, k, v, first_key)[:, :, :130], alone[:, :, :130])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_visible(bad):
    q, k, v, first_key, grad = make((1, 1, 1, 100, 64, 10**9), torch.bfloat16)
    q[0, 0, 70, 3] = bad
    y, dq, dk, _ = run(attention, q, k, v, first_key, grad)
    assert y[0, 0, 70].isnan().all()
    assert y[0, 0, :70].isfinite().all()
    assert y[0, 0, 71:].isfinite().all()
    assert dq[0, 0, 70].isnan().any()
    assert dk.isnan().any()


def test_scores_of_any_size_do_not_overflow():
    q, k, v, first_key, grad = make((1, 1, 1, 200, 64, 50), torch.float32)
    exact = run(plain, 300 * q.double(), k.double(), v.double(), first_key, grad.double())
    results = run(attention, 300 * q, k, v, first_key, grad)
    assert max(errors(results[:1], exact[:1])) < 1e-4
    assert all(x.isfinite().all() for x in results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_finds_the_operator_well_made(dtype):
    q, k, v, first_key, _ = make((2, 4, 2, 40, 32, 9), dtype)
    inputs = (q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), first_key, 0.2)
    torch.library.opcheck(torch.ops.wikigpt.cpu_attention.default, inputs, rtol=1e-2, atol=1e-2)


class Block(nn.Module):
    """Projections around the operator, as in the transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.o = nn.Linear(64, 4 * 32 + 2 * 2 * 32), nn.Linear(4 * 32, 64)

    def forward(self, x: Tensor, first_key: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 8, 32).transpose(1, 2).split([4, 2, 2], dim=1)
        y = attention(q * 1.5, k, v, first_key)
        return x + self.o(y.transpose(1, 2).reshape(*x.shape[:2], 4 * 32))


def test_a_compiled_block_under_autocast_gives_what_the_eager_one_gives():
    torch.manual_seed(0)
    block, x = Block(), torch.randn(2, 100, 64)
    first_key = (torch.arange(100, dtype=torch.int32) // 30 * 30).expand(2, 100)

    def gradients(function) -> list[Tensor]:
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = function(x, first_key)
        y.float().square().mean().backward()
        return [y.detach().float(), *(p.grad.clone() for p in block.parameters() if p.grad is not None)]

    eager, compiled = gradients(block), gradients(torch.compile(block, fullgraph=True))
    assert len(eager) == 5
    assert max(errors(compiled, [x.double() for x in eager])) < 2e-3


def test_inputs_that_do_not_fit_are_refused():
    q, k, v, first_key, _ = make((1, 4, 2, 50, 32, 9), torch.float32)
    with pytest.raises(ValueError, match="do not fit"):
        attention(q[:, :3], k, v, first_key)
    with pytest.raises(ValueError, match="all fp32 or all bf16"):
        attention(q, k.bfloat16(), v, first_key)
    with pytest.raises(ValueError, match="int32"):
        attention(q, k, v, first_key.long())
    for wrong in (-1, 21):  # before the row, after the token itself
        with pytest.raises(ValueError, match="between 0 and"):
            attention(q, k, v, first_key.index_fill(1, torch.tensor([20]), wrong))


PROCESS = """
import torch
from wikigpt.model.cpu import attention, available, unavailable_because
print(available(), unavailable_because())
if available():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 100, 32)
    ours = attention(q, k, v, torch.zeros(1, 100, dtype=torch.int32))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (ours - exact).abs().max() < 1e-5
    halves = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), torch.zeros(1, 100, dtype=torch.int32))
    assert halves.dtype == torch.bfloat16 and (halves - exact).abs().max() < 0.05
"""


def start(**environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_may_race_to_build_it_and_older_processors_have_it_too(tmp_path):
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "XDG_CACHE_HOME": str(tmp_path)}
    for process in [start(**older), start(**older)]:
        out, error = process.communicate()
        assert out.strip() == "True", error
        assert process.returncode == 0, error
    assert [path.suffix for path in (tmp_path / "wikigpt").iterdir()] == [".so"]  # one, and nothing left behind


def test_where_it_cannot_be_built_it_says_why(tmp_path):
    (tmp_path / "file").touch()
    no_compiler, no_room = (
        start(CXX="false", XDG_CACHE_HOME=str(tmp_path)),
        start(XDG_CACHE_HOME=str(tmp_path / "file")),
    )
    assert re.match("False .*false failed", no_compiler.communicate()[0])
    assert re.match("False .*Not a directory", no_room.communicate()[0])
