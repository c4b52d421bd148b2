"""Muon's step by the fused operator: the same as torch's, but for the rounding between its products."""

import math

import pytest
import torch
from torch import nn

from wikigpt.model import ModelConfig, Transformer, cpu
from wikigpt.train import TrainConfig
from wikigpt.train.optimizers import Muon, fuse_muon, make_optimizers, optimizer_state, restore_optimizers

pytestmark = pytest.mark.skipif(not cpu.available(), reason=cpu.unavailable_because())

SHAPES = [(64, 64), (96, 40), (40, 96), (33, 7), (7, 33), (1, 5), (5, 1), (1, 1), (130, 130), (256, 700)]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_steps_like_torch(shape):
    torch.manual_seed(0)
    theirs = nn.Parameter(torch.randn(shape) * 0.02)
    ours = nn.Parameter(theirs.detach().clone())
    before = theirs.detach().clone()
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
    reference, fused = torch.optim.Muon([theirs], **settings), Muon([ours], **settings)
    fused.fused = True
    for _ in range(3):
        theirs.grad = torch.randn(shape)
        ours.grad = theirs.grad.clone()
        reference.step()
        fused.step()
    moved = (theirs - before).norm()
    assert (theirs - ours).norm() < 0.08 * moved, "bf16 rounds otherwise in torch: 1 to 6 % of what was moved"
    torch.testing.assert_close(
        fused.state[ours]["momentum_buffer"], reference.state[theirs]["momentum_buffer"], rtol=1e-5, atol=1e-6
    )


def test_what_it_makes_of_a_matrix_is_nearly_orthogonal():
    """Five Newton-Schulz steps bring singular values of any size near 1 (Jordan et al. 2024: 0.7 to 1.2)."""
    torch.manual_seed(0)
    shape, rate = (192, 64), 1e-3
    u, v = torch.linalg.qr(torch.randn(192, 64))[0], torch.linalg.qr(torch.randn(64, 64))[0]
    matrix = nn.Parameter(torch.zeros(shape))
    matrix.grad = u @ torch.linspace(0.3, 1, 64).diag() @ v
    optimizer = Muon([matrix], lr=rate, weight_decay=0)
    optimizer.fused = True
    optimizer.step()
    singular = torch.linalg.svdvals(matrix.detach()) / rate / math.sqrt(3)  # sqrt(rows / columns): torch's factor
    assert singular.min() > 0.65 and singular.max() < 1.25
    assert torch.sign((-matrix.detach() * matrix.grad).sum()) > 0, "downhill"


def test_a_matrix_of_nans_stays_one_and_spoils_no_other():
    parameters = [nn.Parameter(torch.ones(8, 8)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.full((8, 8), math.nan), torch.randn(8, 8)
    optimizer = Muon(parameters, lr=0.1)
    optimizer.fused = True
    optimizer.step()
    assert parameters[0].isnan().all() and parameters[1].isfinite().all()


def test_threads_do_not_change_it_and_its_state_is_that_of_torch():
    model = Transformer(ModelConfig(vocab_size=50, n_layers=2, d_model=64, n_heads=2, context_length=16))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outcomes = []
    threads = torch.get_num_threads()
    for n in (1, 2):
        torch.set_num_threads(n)
        model.load_state_dict(start)
        optimizers = make_optimizers(model, TrainConfig(steps=1))
        fuse_muon(optimizers, True)
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for optimizer in optimizers:
                optimizer.step()
        outcomes.append([p.detach().clone() for p in model.parameters()])
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    plain = make_optimizers(model, TrainConfig(steps=1))
    restore_optimizers(plain, optimizer_state(optimizers))
    for optimizer in plain:
        optimizer.step()
