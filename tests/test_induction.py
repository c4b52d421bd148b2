"""Heads that are set to copy: what stands behind a pair of tokens is expected when the pair comes again."""

import pytest
import torch

from wikigpt.model import ModelConfig, Transformer
from wikigpt.model.induction import can_have_induction, set_induction_heads

SHAPES = {
    "six layers of 256": {"n_layers": 6, "d_model": 256, "n_heads": 4},
    "grouped queries": {"n_layers": 2, "d_model": 128, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64},
    "small heads": {"n_layers": 2, "d_model": 128, "n_heads": 4},
    "a long context": {"n_layers": 4, "d_model": 192, "n_heads": 3, "context_length": 2048, "rope_theta": 1e6},
}


def made(heads: bool, **shape: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{"vocab_size": 400, "context_length": 512, **shape}))
    if heads:
        set_induction_heads(model)
    return model.eval()


@torch.no_grad()
def rank_of_what_comes(model: Transformer, *, gap: int = 0) -> tuple[float, float]:
    """Median rank of the next token in the second half of a repeated row, and in its first half."""
    tokens = torch.randint(400, (16, 60 + gap))
    tokens = torch.cat([tokens, tokens[:, :60]], 1)
    logits = model(tokens)[:, :-1]
    following = logits.gather(2, tokens[:, 1:, None])
    ranks = (logits > following).sum(-1).float()
    return ranks[:, 63 + gap :].median().item(), ranks[:, :58].median().item()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_untrained_model_continues_what_it_has_seen_before(shape):
    again, new = rank_of_what_comes(made(True, **shape))
    assert again < (40 if shape is SHAPES["small heads"] else 5) and new > 100  # of 400
    without, _ = rank_of_what_comes(made(False, **shape))
    assert without > 100


def test_it_reaches_back_over_the_context():
    again, _ = rank_of_what_comes(made(True, n_layers=2, d_model=256, n_heads=4, rope_theta=1e6), gap=380)
    assert again < 5


def test_the_two_tokens_before_are_compared_and_not_one():
    """Where one token was followed by two others, what stood before it decides."""
    model = made(True, n_layers=2, d_model=256, n_heads=4)
    right = 0
    for seed in range(40):
        torch.manual_seed(seed)
        a, b, shared, after_a, after_b, *other = torch.randperm(400)[:40].tolist()
        tokens = [a, shared, after_a, *other[:15], b, shared, after_b, *other[15:30], a, shared]
        with torch.no_grad():
            logits = model(torch.tensor([tokens]))[0, -1]
        right += int(logits[after_a] > logits[after_b])
    assert right > 34


def test_the_start_is_still_that_of_the_seed():
    one, same = (made(True, n_layers=2, d_model=128, n_heads=2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize(
    "shape",
    [{"family": "llama"}, {"family": "gpt2"}, {"n_layers": 1}, {"n_kv_heads": 1}, {"head_dim": 256}],
    ids=str,
)
def test_shapes_without_a_place_for_them_are_told_apart(shape):
    model = made(False, **{"n_layers": 2, "d_model": 128, "n_heads": 2, **shape})
    assert not can_have_induction(model)
    with pytest.raises(ValueError, match="no place for induction heads"):
        set_induction_heads(model)
