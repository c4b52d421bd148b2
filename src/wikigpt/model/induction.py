"""Attention that copies from the first step on: some heads of a new model are set to be an induction head.

A small model learns to look things up in what it reads late and suddenly (Olsson et al. 2022, arXiv:2209.11895): two
layers have to come to work together by chance before either gains anything. So we set their weights, as far as the
architecture allows it with ordinary matrices. In the first layer, one head looks at the token before and notes what it
was, another does so for the one before that. In the second layer, a head looks for a place whose last two tokens were
the two it has read now, and says what stands there. Everything is trained from there on. docs/experiments.md has what
it gains.
"""

import torch
from torch import Tensor

from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.model.transformer import Attention, Transformer

LOOKS_BACK = 2  # tokens whose sameness is looked for: as many heads of the first layer
CONSTANT = 0.08  # one entry of every embedding, for heads to look at wherever they are; others have a deviation of 0.02
GAIN = 2**0.5  # of normed queries and keys: logits up to 16 at a head_dim of 64, so that one key of 500 can win
QUIET = 0.1  # what is left of the random start of these heads
NOTE, SAY = 0.05, 0.08  # how loud the heads write into the stream, whose entries have a deviation of 0.02 at first
QUARTER = 1.6  # radians: a pair of a query that turns no further over the whole context can still be compared


def new_model(config: ModelConfig, *, induction_heads: bool = True) -> Transformer:
    """A model to be trained from noise, at random as torch's seed says, with these heads where they find a place."""
    model = Transformer(config)
    if induction_heads and can_have_induction(model):
        set_induction_heads(model)
    return model


def can_have_induction(model: Transformer) -> bool:
    """Whether there is a place for these heads: rotary positions, normed queries and keys, enough layers and heads."""
    config, family = model.config, FAMILIES[model.config.family]
    enough = config.n_layers > 1 and config.kv_heads >= LOOKS_BACK and 2 * LOOKS_BACK <= config.key_dim < config.d_model
    return enough and family.positions == "rope" and family.qk_norm


@torch.no_grad()
def set_induction_heads(model: Transformer) -> None:
    """Set heads of the first two layers, and a constant entry in all embeddings; at random as torch's seed says.

    Raises:
        ValueError: an architecture that cannot have them, see `can_have_induction`.
    """
    if not can_have_induction(model):
        raise ValueError(f"a {model.config.family} model of this shape has no place for induction heads")
    config, head = model.config, model.config.key_dim
    group, half = config.n_heads // config.kv_heads, head // 2
    # Rotary position turns pair i of a head by theta[i] a token: the first tell neighbours apart, the last hardly turn.
    theta = config.rope_theta ** (-torch.arange(half) / half)
    fast = theta[: max(1, round(half * 5 / 32))]
    still = torch.arange(half)[-max(LOOKS_BACK, int((theta * config.context_length < QUARTER).sum())) :]
    slots = [torch.cat([pairs, pairs + half]) for pairs in still.tensor_split(LOOKS_BACK)]
    size = len(slots[0])
    *notes, said = _directions(config.d_model, *[size] * (LOOKS_BACK + 1), head)  # notes[n]: of the n-th token before

    model.model.embed_tokens.weight[:, 0] = CONSTANT
    first, second = [module for module in model.modules() if isinstance(module, Attention)][:2]
    for norm in (first.q_norm, first.k_norm, second.q_norm, second.k_norm):
        torch.nn.init.constant_(next(norm.parameters()), GAIN)
    for n in range(1, LOOKS_BACK + 1):
        # A constant query meets constant keys turned by n tokens: the score is highest at the n-th token before.
        q, k, v, out = _head(first, n - 1, group)
        q[: len(fast), 0] = 1.0
        k[: len(fast), 0] = (n * fast).cos()
        k[half : half + len(fast), 0] = (n * fast).sin()
        v[:size] = notes[0]
        out[:, :size] = NOTE * notes[n].T
    q, k, v, out = _head(second, 0, group)
    for n, slot in enumerate(slots):
        q[slot], k[slot] = notes[n][: len(slot)], notes[n + 1][: len(slot)]
    v[: len(said)] = said
    out[:, : len(said)] = SAY * said.T


def _head(attention: Attention, number: int, group: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of a key head's matrices, and of its first query head's: queries, keys, values, output; put down to set."""
    keys = slice(number * attention.head_dim, (number + 1) * attention.head_dim)
    queries = slice(number * group * attention.head_dim, (number * group + 1) * attention.head_dim)
    q, k, v = attention.q_proj.weight[queries], attention.k_proj.weight[keys], attention.v_proj.weight[keys]
    for part in (q, k, v):
        part *= QUIET
    return q, k, v, attention.o_proj.weight[:, queries]


def _directions(width: int, *numbers: int) -> list[Tensor]:
    """Random directions in bundles of so many, each orthonormal to those of its bundle and without the constant entry.

    All bundles are orthonormal to each other as far as the width suffices.
    """
    bundles: list[Tensor] = []
    for number in numbers:
        drawn = torch.randn(width - 1, width - 1)
        earlier = torch.cat(bundles) if bundles else drawn[:0]
        if len(earlier) + number < width:
            drawn -= earlier.T @ (earlier @ drawn)
        bundles.append(torch.linalg.qr(drawn[:, :number]).Q.T)
    return [torch.nn.functional.pad(bundle, (1, 0)) for bundle in bundles]
