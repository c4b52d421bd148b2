"""Adapters in the file layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

An adapter that we trained loads in `peft` over the exported base, and one that `peft` trained loads here.
`adapter.json` beside them says what base it is for; PEFT's own adapters lack it.
"""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wikigpt.adapt.settings import PROMPT_METHODS, AdapterSettings
from wikigpt.adapt.virtual import WithVirtualTokens, add_prefix, add_soft_prompt, attentions
from wikigpt.adapt.weights import IA3, DoRA, LoRA, adapter_of, add
from wikigpt.artifacts import atomic_folder, check_output_folder, fingerprint, read_json, sha256_file, write_json
from wikigpt.errors import UserError
from wikigpt.model import Transformer
from wikigpt.model.hub import TOKENIZER_FILES, hub_names, weight_files
from wikigpt.model.importing import NEEDED_TOKENS
from wikigpt.model.transformer import rotary_angles, rotate
from wikigpt.tokens import load_tokenizer

CONFIG, WEIGHTS, FACTS = "adapter_config.json", "adapter_model.safetensors", "adapter.json"
PREFIX = "base_model.model."  # of every name in PEFT's files, but for prompts
KINDS = {"lora": "LORA", "dora": "LORA", "ia3": "IA3", "soft-prompt": "PROMPT_TUNING", "prefix": "PREFIX_TUNING"}
PROMPT = "prompt_embeddings"
MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector.weight")  # PEFT writes both
KNOWN_TENSORS = {"ia3_l", "lora_A.weight", "lora_B.weight", *MAGNITUDES}


@dataclass(frozen=True)
class Adapter:
    """An adapter as PEFT's files hold it."""

    config: dict[str, Any]  # of adapter_config.json
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)  # of adapter.json

    @property
    def n_virtual(self) -> int:
        """Virtual tokens that come before each conversation."""
        return int(self.config.get("num_virtual_tokens") or 0)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def chat_folder(path: Path) -> Path:
    """The model or adapter that answers: that of a run folder, or the folder itself.

    Raises:
        UserError: there is none.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise UserError(
            f"{path} holds no model; give a run folder that `wikigpt build` has finished, or the folder of a model or "
            "an adapter (`wikigpt import` makes one of what others trained)."
        )
    return folder


def base_checksum(base: Path) -> str:
    """What tells one base from another: a fingerprint of its weight files."""
    return fingerprint(*[sha256_file(path) for path in weight_files(base)])


def extract(model: Transformer, settings: AdapterSettings) -> Adapter:
    """The adapter that `adapt` installed in a model, as it is now."""
    n = settings.n_virtual
    config: dict[str, Any] = {"peft_type": KINDS[settings.method], "task_type": "CAUSAL_LM", "inference_mode": True}
    if n:
        c = model.config
        shape = {"num_layers": c.n_layers, "token_dim": c.d_model, "num_attention_heads": c.n_heads}
        config |= {"num_virtual_tokens": n, "num_transformer_submodules": 1, **shape}
        if settings.method == "prefix":
            config |= {"encoder_hidden_size": c.kv_heads * c.key_dim, "prefix_projection": False}
            config |= {"token_dim": c.kv_heads * c.key_dim, "num_attention_heads": c.kv_heads}
            return Adapter(config, {PROMPT: _stacked_prefixes(model)})
        embedding = model.model.embed_tokens
        assert isinstance(embedding, WithVirtualTokens)
        return Adapter(config, {PROMPT: embedding.prompt_embeddings.detach().clone()})
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    adapted = [(module, adapters) for module, _, adapters in _layers(model) if any(adapters)]
    for module, adapters in adapted:
        tensors |= {f"{PREFIX}{module}.{key}": t.contiguous() for key, t in _joined(adapters).items()}
        if len(adapters) > 1:
            ranks[_leaf(module)] = settings.rank * len(adapters)
    leaves = sorted({_leaf(module) for module, _ in adapted})
    config |= {"target_modules": leaves, "fan_in_fan_out": model.config.family == "gpt2"}
    if settings.method == "ia3":
        on_inputs = {_leaf(m) for m, (first, *_) in adapted if isinstance(first, IA3) and first.ia3_l.shape[0] == 1}
        return Adapter({**config, "feedforward_modules": sorted(on_inputs)}, tensors)
    config |= {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": 0.0, "bias": "none"}
    config |= {"use_dora": settings.method == "dora", "rank_pattern": ranks}
    config["alpha_pattern"] = {leaf: settings.alpha / settings.rank * rank for leaf, rank in ranks.items()}
    return Adapter(config, tensors)


def check_adaptable(base: Path, settings: AdapterSettings, *, merge: bool) -> None:
    """Raise `UserError` unless adapters can be trained for `base`, and what is asked for can be written."""
    if merge and settings.method in PROMPT_METHODS:
        raise UserError(
            f"a {settings.method} is no change of weights and cannot be merged into them; leave --merge out."
        )
    stays = (base / "config.json").is_file()
    if not stays or any(load_tokenizer(base).token_to_id(token) is None for token in NEEDED_TOKENS):
        raise UserError(
            f"an adapter needs a base that is a model folder with chat tokens, and {base} is none; make one with "
            f"`wikigpt import {base} -o FOLDER` and give that."
        )


def save_adapter(
    adapter: Adapter, folder: Path, *, base: Path, tokenizer: Path, facts: dict[str, Any], card: str = ""
) -> None:
    """Write an adapter folder, atomically: PEFT's two files, the tokenizer, `adapter.json`, a model card.

    Args:
        base: model folder that it was trained on.
        tokenizer: folder whose tokenizer files are copied.
    """
    check_output_folder(folder, CONFIG)
    with atomic_folder(folder) as target:
        write_json(target / CONFIG, {**adapter.config, "base_model_name_or_path": str(base.resolve())})
        save_file(adapter.tensors, target / WEIGHTS, metadata={"format": "pt"})
        write_json(target / FACTS, {**facts, "base_sha256": base_checksum(base)})
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, target / name)
        if card:
            (target / "README.md").write_text(card, encoding="utf-8")


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter folder.

    Raises:
        UserError: it is incomplete or damaged, or of a kind that we lack.
    """
    if not is_adapter(folder):
        raise UserError(f"{folder} is no adapter: it holds no {CONFIG}.")
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind not in KINDS.values():
        raise UserError(f"{folder} is an adapter of kind {kind!r}; those that can be used are {_known_kinds()}.")
    if problems := [key for key in ("modules_to_save", "bias") if config.get(key) not in (None, [], "none")]:
        raise UserError(
            f"{folder} also holds {problems[0]}={config[problems[0]]!r} trained in full, which is not supported."
        )
    if config.get("prefix_projection"):
        raise UserError(f"{folder} makes its prefix by a network (prefix_projection), which is not supported.")
    try:
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError:
        raise UserError(f"{folder / WEIGHTS} is missing, so the adapter has no weights.") from None
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS} is damaged ({error}).") from None
    return Adapter(config, tensors, read_json(folder / FACTS) if (folder / FACTS).is_file() else {})


def check_base(folder: Path, adapter: Adapter, base: Path) -> None:
    """Raise `UserError` unless `base` is what the adapter of `folder` was trained on, as far as it says."""
    expected = adapter.facts.get("base_sha256")
    if expected and expected != base_checksum(base):
        raise UserError(
            f"the adapter {folder} was trained on another base, {adapter.config.get('base_model_name_or_path')}; "
            f"over {base} it would babble. Give that one."
        )


def base_of(folder: Path) -> Path:
    """The base that an adapter names.

    Raises:
        UserError: it is not there.
    """
    name = str(read_json(folder / CONFIG).get("base_model_name_or_path") or "")
    base = Path(name)
    if not name or not (base / "config.json").is_file():
        raise UserError(f"the base of the adapter {folder}, {name or '(not named)'}, is not here; give its folder.")
    return base


def attach(model: Transformer, adapter: Adapter, source: Path) -> None:
    """Install an adapter in a plain model.

    Args:
        source: where it is from, for messages.

    Raises:
        UserError: it does not fit the model.
    """
    tensors = dict(adapter.tensors)
    if adapter.n_virtual:
        prompt = tensors.pop(PROMPT, None)
        width = model.config.d_model
        is_prefix = adapter.config["peft_type"] == "PREFIX_TUNING"
        if is_prefix:
            width = 2 * model.config.n_layers * model.config.kv_heads * model.config.key_dim
        if prompt is None or list(prompt.shape) != [adapter.n_virtual, width]:
            raise UserError(f"{source} does not fit the model: its prompt should be [{adapter.n_virtual}, {width}].")
        prompt = prompt.to(model.lm_head.weight)
        if is_prefix:
            add_prefix(model.model, _split_prefixes(model, prompt))
        else:
            add_soft_prompt(model.model, prompt)
    for module, linears, _ in _layers(model):
        name = f"{PREFIX}{module}."
        mine = {key[len(name) :]: tensors.pop(key) for key in list(tensors) if key.startswith(name)}
        if mine:
            _attach(linears, module, mine, adapter.config, source)
    if tensors:
        raise UserError(f"{source} does not fit the model, which has no {next(iter(tensors))}.")


def _attach(
    linears: list[nn.Linear], module: str, tensors: dict[str, Tensor], config: dict[str, Any], source: Path
) -> None:
    """Install what PEFT keeps of one module of transformers into the linear layers that it is here."""
    if unknown := {*tensors} - KNOWN_TENSORS:
        raise UserError(f"{source} holds {module}.{min(unknown)}, which is not supported.")
    sizes = [linear.weight.shape[0] for linear in linears]
    inputs = linears[0].weight.shape[1]
    try:
        if "ia3_l" in tensors:
            wanted = tensors["ia3_l"]
            on_inputs = wanted.shape == (1, inputs)
            parts = [wanted] * len(sizes) if on_inputs else wanted.reshape(-1, 1).split(sizes)
            for linear, part in zip(linears, parts, strict=True):
                ia3 = IA3(linear.weight, on_inputs=on_inputs)
                _set(ia3.ia3_l, part)
                add(linear, ia3)
            return
        a, b = tensors["lora_A.weight"], tensors["lora_B.weight"]
        magnitude = next((tensors[name] for name in MAGNITUDES if name in tensors), None)
        lengths = [None] * len(sizes) if magnitude is None else magnitude.flatten().split(sizes)
        scale = _scale(module, len(a), config)
        for linear, rows, length in zip(linears, b.split(sizes), lengths, strict=True):
            lora = (LoRA if length is None else DoRA)(linear.weight, len(a), scale)
            _set(lora.lora_A, a)
            _set(lora.lora_B, rows)
            if isinstance(lora, DoRA) and length is not None:
                _set(lora.lora_magnitude_vector, length)
            add(linear, lora)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{source} does not fit the model at {module}: {error}.") from None


@torch.no_grad()
def _set(parameter: nn.Parameter, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise ValueError(f"shape {[*value.shape]}, not {[*parameter.shape]}")
    parameter.copy_(value)


def _scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """alpha / rank, or / √rank for rsLoRA; a pattern for the module goes before the general value."""

    def pattern(key: str, default: float) -> float:
        matching = (v for k, v in (config.get(key) or {}).items() if re.fullmatch(rf"(.*\.)?({k})", module))
        return float(next(matching, default))

    alpha = pattern("alpha_pattern", config.get("lora_alpha", rank))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _layers(model: Transformer) -> list[tuple[str, list[nn.Linear], list[nn.Module | None]]]:
    """Each module of transformers' that is linear layers here: its name, the layers, and what adapts them."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    found = []
    with torch.device("meta"):
        plain = Transformer(model.config)  # whose names no adapter has changed
    for theirs, parts in hub_names(plain).items():
        ours = [linears.get(part.removesuffix(".weight")) for part in parts]
        if theirs.endswith(".weight") and all(ours) and ".layers." in parts[0]:
            layers = [linear for linear in ours if linear is not None]
            found.append((theirs.removesuffix(".weight"), layers, [adapter_of(linear) for linear in layers]))
    return found


def _leaf(module: str) -> str:
    """What PEFT's `target_modules` calls a module; GPT-2 has two kinds of `c_proj`."""
    *_, parent, name = module.split(".")
    return f"{parent}.{name}" if name == "c_proj" else name


def _joined(adapters: list[nn.Module | None]) -> dict[str, Tensor]:
    """The tensors of one module in PEFT's names, those of parts (GPT-2's q, k, v) as one of all their ranks."""
    present = [adapter for adapter in adapters if adapter is not None]
    if isinstance(present[0], IA3):
        factors = [adapter.ia3_l.detach() for adapter in present if isinstance(adapter, IA3)]
        return {"ia3_l": factors[0] if factors[0].shape[0] == 1 else torch.cat(factors)}
    loras = [adapter for adapter in present if isinstance(adapter, LoRA)]
    tensors = {
        "lora_A.weight": torch.cat([lora.lora_A.detach() for lora in loras]),
        "lora_B.weight": torch.block_diag(*[lora.lora_B.detach() for lora in loras]),
    }
    lengths = [lora.lora_magnitude_vector.detach() for lora in loras if isinstance(lora, DoRA)]
    if lengths:
        tensors["lora_magnitude_vector"] = torch.cat(lengths)
    return tensors


def _stacked_prefixes(model: Transformer) -> Tensor:
    """`[n, 2 · layers · kv_heads · head_dim]`: for each layer keys, rotated as at a text's beginning, and values."""
    rows = []
    for attention in attentions(model.model):
        prefix: Any = attention.prefix
        rows += [_turned(model, prefix.keys.detach(), 1), prefix.values.detach()]
    return torch.stack(rows, dim=1).flatten(1)


def _split_prefixes(model: Transformer, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
    shape = (len(prompt), model.config.n_layers, 2, model.config.kv_heads, model.config.key_dim)
    layers = prompt.view(shape).unbind(1)
    return [(_turned(model, layer[:, 0], -1), layer[:, 1].clone()) for layer in layers]


def _turned(model: Transformer, keys: Tensor, direction: int) -> Tensor:
    """Keys `[n, kv_heads, head_dim]` rotated to their places, or (direction -1) back."""
    config = model.config
    if model.model.embed_positions is not None:
        return keys.clone()
    positions = torch.arange(len(keys))
    cos, sin = rotary_angles(positions, config.key_dim, config.rope_theta, config.rope_scaling)
    return rotate(keys, cos[:, None], direction * sin[:, None])


def _known_kinds() -> str:
    return ", ".join(dict.fromkeys(KINDS.values()))
