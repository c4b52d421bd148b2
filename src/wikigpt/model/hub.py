"""Model folders as transformers, vLLM and llama.cpp know them: `config.json` + `model.safetensors`."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wikigpt.artifacts import atomic_folder, check_output_folder, read_json
from wikigpt.errors import UserError
from wikigpt.model.config import FAMILIES, FamilyName, ModelConfig
from wikigpt.model.transformer import Transformer
from wikigpt.tokens import load_tokenizer
from wikigpt.tokens.tokenizer import END_OF_TEXT, IM_END, PAD

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

# Our field -> the key in config.json.
CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_ff": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}


def to_hub_config(config: ModelConfig, *, eos_token_id: int | None, pad_token_id: int | None) -> dict[str, Any]:
    """`config.json` as both transformers 4 (`rope_theta`, `torch_dtype`) and 5 read it."""
    fields = config.model_dump()
    return {
        "architectures": [FAMILIES[config.family].architecture],
        "model_type": config.family,
        **{hub_key: fields[ours] for ours, hub_key in CONFIG_KEYS.items()},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "dtype": "float32",
        "torch_dtype": "float32",
        "use_cache": True,
    }


def from_hub_config(config: dict[str, Any], source: Path) -> ModelConfig:
    """Our configuration from a `config.json`; `UserError` for a family or feature that we lack."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"{source} is a {family!r} model; WikiGPT loads these families: {', '.join(sorted(FAMILIES))}.")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default" or config.get("attention_bias"):
        raise UserError(f"{source} uses scaled rotary positions or attention biases, which are not supported.")
    values: dict[str, Any] = {ours: config[key] for ours, key in CONFIG_KEYS.items() if key in config}
    name: FamilyName = family
    try:
        return ModelConfig(
            family=name, rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0), **values
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{source}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from None


def save_model(model: Transformer, folder: Path, *, tokenizer: Path, card: str = "") -> None:
    """Write a complete model folder, atomically: configuration, fp32 weights, tokenizer, model card.

    Args:
        tokenizer: folder whose tokenizer files are copied.
        card: text of the model card `README.md`.
    """
    check_output_folder(folder, "config.json")
    loaded = load_tokenizer(tokenizer)
    end, im_end, pad = (loaded.token_to_id(token) for token in (END_OF_TEXT, IM_END, PAD))
    with atomic_folder(folder) as target:
        write_weights(model, target / "model.safetensors")
        config = to_hub_config(model.config, eos_token_id=end, pad_token_id=pad)
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        generation = {
            "eos_token_id": [i for i in (end, im_end) if i is not None],
            "pad_token_id": pad,
            "do_sample": False,
        }
        (target / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, target / name)
        if card:
            (target / "README.md").write_text(card, encoding="utf-8")


def write_weights(model: Transformer, path: Path) -> None:
    """Weights under transformers' names; a tied head is left out, as transformers expects."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_embeddings:
        del state["lm_head.weight"]
    save_file(state, path, metadata={"format": "pt"})


def read_weights(model: Transformer, path: Path) -> None:
    """Load weights in place; missing, extra or misshapen ones are a `UserError`."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing, so the model has no weights.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}).") from None
    if model.config.tie_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path} does not fit its config.json: {problem}") from None


def load_model(folder: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    """Load a model folder for inference. Nothing in it is executed: no pickle, no `auto_map`."""
    config = from_hub_config(read_json(folder / "config.json"), folder / "config.json")
    model = Transformer(config)
    read_weights(model, folder / "model.safetensors")
    return model.to(device=device, dtype=dtype).eval()
