"""The ways to adapt a model: each freezes what it does not train, and installs what it does."""

from collections.abc import Iterator

import torch
from torch import nn

from wikigpt.adapt.settings import AdapterSettings
from wikigpt.adapt.virtual import (
    WithVirtualTokens,
    add_prefix,
    add_soft_prompt,
    attentions,
    keys_and_values,
    remove_virtual_tokens,
)
from wikigpt.adapt.weights import IA3, DoRA, LoRA, adapter_of, add, bake
from wikigpt.errors import UserError
from wikigpt.model import Transformer
from wikigpt.model.hub import hub_names

IA3_TARGETS = ("k_proj", "v_proj", "down_proj")
PARTS = "first:N, last:N, layers:A-B, head, embeddings, norms, attention, mlp"


def adapt(model: Transformer, settings: AdapterSettings, *, seed: int = 0) -> None:
    """Prepare a model, in place, for being trained by `settings.method`; only what that trains takes gradients.

    Raises:
        UserError: a layer, a matrix or a part that the model does not have.
    """
    method = settings.method
    if method == "full":
        return
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    torch.manual_seed(seed)
    if method == "freeze":
        for parameter in _chosen(model, settings.train):
            parameter.requires_grad_(True)
    elif method in ("lora", "dora"):
        kind, scale = DoRA if method == "dora" else LoRA, settings.alpha / settings.rank
        for _, linear in targets(model, settings.targets):
            add(linear, kind(linear.weight, settings.rank, scale))
    elif method == "ia3":
        for name, linear in targets(model, settings.targets or list(IA3_TARGETS)):
            add(linear, IA3(linear.weight, on_inputs=name == "down_proj"))
    else:
        _check_room(model, settings.virtual_tokens)
        # Words of the vocabulary are a better beginning than noise (Lester et al. 2021, figure 3b).
        ids = torch.randperm(model.config.vocab_size)[: settings.virtual_tokens]
        if method == "prefix":
            add_prefix(model.model, keys_and_values(model.model, ids))
        else:
            add_soft_prompt(model.model, model.model.embed_tokens.weight[ids].detach().clone())


def plain(model: Transformer, *, keep: bool) -> None:
    """Make an adapted model plain again: with the adapter's changes merged in (`keep`), or as its base was.

    Virtual tokens cannot be merged; they go.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.Linear):
            bake(module, keep=keep)
    remove_virtual_tokens(model.model)
    model.tie()


def n_virtual_tokens(model: Transformer) -> int:
    """How many virtual tokens an adapted model expects before a conversation."""
    embedding = model.model.embed_tokens
    return len(embedding.prompt_embeddings) if isinstance(embedding, WithVirtualTokens) else 0


def targets(model: Transformer, names: list[str] | None) -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers of the blocks whose name, such as "q_proj", is one of `names` (None: all of them).

    Those that transformers keeps in one matrix come together (GPT-2's q, k and v).
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in name and adapter_of(module) is None
    }
    known = list(dict.fromkeys(name.rsplit(".", 1)[1] for name in layers))
    if unknown := [target for target in names or () if target not in known]:
        raise UserError(
            f"adapter.targets: a {model.config.family} model has no matrices {unknown[0]!r}; it has {', '.join(known)}."
        )
    wanted = set(names or known)
    for parts in hub_names(model).values():
        modules = [part.removesuffix(".weight") for part in parts]
        if any(module in layers and module.rsplit(".", 1)[1] in wanted for module in modules):
            for module in modules:
                yield module.rsplit(".", 1)[1], layers[module]


def _check_room(model: Transformer, n: int) -> None:
    if n > model.config.context_length // 2:
        raise UserError(
            f"{n} virtual tokens would leave less than half of the model's context of {model.config.context_length}; "
            f"set adapter.virtual_tokens to {model.config.context_length // 2} at most."
        )


def _chosen(model: Transformer, text: str) -> list[nn.Parameter]:
    """The parameters that `AdapterSettings.train` names."""
    parameters: list[nn.Parameter] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        parameters += _part(model, word)
    if not parameters:
        raise UserError(f"adapter.train names nothing to train; give some of {PARTS}.")
    return parameters


def _part(model: Transformer, word: str) -> list[nn.Parameter]:
    decoder, layers = model.model, model.model.layers
    kind, _, numbers = word.partition(":")
    if kind in ("first", "last", "layers") and numbers:
        first, last = _range(kind, numbers, len(layers), word)
        return [p for layer in layers[first:last] for p in layer.parameters()]
    if word == "head":
        return [*model.lm_head.parameters(), *model.transform.parameters(), *decoder.norm.parameters()]
    if word == "embeddings":
        return [p for name, p in decoder.named_parameters() if name.startswith("embed_")]
    if word == "norms":
        return [p for name, p in decoder.named_parameters() if "norm" in name]
    if word == "attention":
        return [p for attention in attentions(decoder) for p in attention.parameters()]
    if word == "mlp":
        return [p for name, p in decoder.named_parameters() if ".mlp." in name]
    raise UserError(f"adapter.train: {word!r} is no part of a model; parts are {PARTS}.")


def _range(kind: str, numbers: str, n_layers: int, word: str) -> tuple[int, int]:
    """The half-open range of layers that `first:2`, `last:2` or `layers:3-5` names; layers count from 0."""
    low, dash, high = numbers.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()) or (dash and kind != "layers"):
        raise UserError(f"adapter.train: {word!r} is not understood; write it as one of {PARTS}.")
    n = int(low)
    first, last = {"first": (0, n), "last": (n_layers - n, n_layers), "layers": (n, int(high or low) + 1)}[kind]
    if not 0 <= first < last <= n_layers:
        raise UserError(f"adapter.train: {word!r} does not fit a model whose {n_layers} layers count from 0.")
    return first, last


def trained_share(model: Transformer) -> tuple[int, float]:
    """Number of weights that take gradients, and their share of all."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, trained / sum(p.numel() for p in model.parameters())
