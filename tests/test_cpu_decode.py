"""Decoding by one operator: what the model's own forward pass says, in every shape, number of texts and threads."""

import copy

import pytest
import torch

from wikigpt.adapt.methods import adapt
from wikigpt.adapt.settings import AdapterSettings
from wikigpt.model import Cache, ModelConfig, Transformer
from wikigpt.model import cpu as operators
from wikigpt.model.cpu import Decoding
from wikigpt.model.rounding import RoundedEmbedding, RoundedLinear, round_in_place

pytestmark = pytest.mark.skipif(not operators.available(), reason=operators.unavailable_because())

SHAPES = {
    "qwen3": {
        "family": "qwen3",
        "n_layers": 2,
        "d_model": 48,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 16,
        "d_ff": 80,
    },
    "llama": {"family": "llama", "n_layers": 3, "d_model": 40, "n_heads": 5, "n_kv_heads": 1, "d_ff": 37},
    "untied": {"family": "llama", "n_layers": 1, "d_model": 64, "n_heads": 2, "tie_embeddings": False, "d_ff": 128},
}


def random_model(name: str) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=101, context_length=64, **SHAPES[name]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@torch.inference_mode()
def logits_of(model: Transformer, padding: list[int], *, by_operator: bool, dropped: bool = True) -> list[torch.Tensor]:
    """Logits of 20 tokens after a prompt of 12; half way, some of the texts come to their end."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 101, (len(padding), 32), generator=generator)
    cache = Cache(model.config, torch.tensor(padding), 40, torch.float32)
    model.model(ids[:, :12], cache=cache)
    decoding = Decoding.of(model, 40)
    assert decoding is not None
    found = []
    for step in range(12, 32):
        if step == 20 and dropped:
            keep = torch.arange(0, len(ids), 2)
            cache.keep(keep)
            ids = ids[keep]
        if by_operator:
            found.append(decoding.step(ids[:, step], cache))
        else:
            found.append(model.lm_head(model.model(ids[:, step : step + 1], cache=cache)[:, -1]))
    return found


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("padding", [[0], [3, 0], [0, 2, 11, 5, 1, 0, 7, 4, 9]])
@pytest.mark.parametrize("name", SHAPES)
def test_it_says_what_the_forward_pass_says(name, padding, rounded):
    model = random_model(name)
    if rounded:
        round_in_place(model)
    ours, theirs = (logits_of(model, padding, by_operator=by) for by in (True, False))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_threads_change_nothing():
    model = random_model("qwen3")
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            torch.set_num_threads(n)
            found.append(torch.stack(logits_of(model, [0, 4], by_operator=True, dropped=False)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert torch.equal(found[0], other)


def test_rounded_matrices_take_a_quarter_and_are_off_by_half_a_step():
    model = random_model("qwen3")
    rounded = copy.deepcopy(model)
    round_in_place(rounded)
    assert isinstance(rounded.model.embed_tokens, RoundedEmbedding) and isinstance(rounded.lm_head, RoundedLinear)
    assert rounded.lm_head.weight.data_ptr() == rounded.model.embed_tokens.weight.data_ptr()  # still tied
    weight, scale = rounded.lm_head.weight, rounded.lm_head.scale
    assert weight.dtype == torch.int8
    assert ((weight * scale[:, None] - model.lm_head.weight).abs() <= scale[:, None] * 0.501).all()
    ids = torch.randint(0, 101, (2, 9))
    ours, theirs = rounded(ids), model(ids)
    assert 0 < (ours - theirs).abs().max() < 0.2 * theirs.abs().max()


def test_what_it_does_not_know_is_left_to_torch():
    assert Decoding.of(random_model("qwen3"), 40) is not None
    gpt2 = Transformer(ModelConfig(family="gpt2", vocab_size=101, n_layers=1, d_model=32, n_heads=2))
    assert Decoding.of(gpt2, 40) is None
    biased = ModelConfig(vocab_size=101, attention_bias=True, **SHAPES["llama"])
    assert Decoding.of(Transformer(biased), 40) is None
    mixed = random_model("llama")
    mixed.lm_head = RoundedLinear(torch.zeros(101, 40, dtype=torch.int8), torch.ones(101))
    assert Decoding.of(mixed, 40) is None
    half = random_model("qwen3").to(torch.bfloat16)
    assert Decoding.of(half, 40) is None
    prefixed = random_model("qwen3")
    adapt(prefixed, AdapterSettings(method="prefix"))
    assert Decoding.of(prefixed, 40) is None


def test_operators_of_training_keep_off_rounded_matrices():
    """They would take the whole numbers for the weights."""
    model = random_model("qwen3")
    ids = torch.randint(0, 101, (2, 9))
    round_in_place(model)
    with torch.no_grad():
        plain = model(ids)
        model.fuse()
        assert not model.can_fuse()
        assert (model(ids) - plain).abs().max() < 1e-4 * plain.abs().max()


def test_adapters_are_reckoned_in():
    model = random_model("qwen3")
    plain = torch.stack(logits_of(model, [0, 1], by_operator=True, dropped=False))
    adapt(model, AdapterSettings(method="lora"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_(std=0.1)
    ours, theirs = (torch.stack(logits_of(model, [0, 1], by_operator=by, dropped=False)) for by in (True, False))
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert (ours - plain).abs().max() > 0.01
