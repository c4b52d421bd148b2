"""Model folders as transformers, vLLM and llama.cpp know them: `config.json` + `model.safetensors`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wikigpt.artifacts import atomic_folder, check_output_folder, read_json, write_json
from wikigpt.errors import UserError
from wikigpt.model import rounding
from wikigpt.model.config import FAMILIES, FamilyName, ModelConfig
from wikigpt.model.transformer import Transformer
from wikigpt.tokens import load_tokenizer
from wikigpt.tokens.tokenizer import END_OF_TEXT, IM_END, PAD

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
IMPORTED = "import.json"  # what says of a model folder that others trained the model
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# Our field -> its key in config.json, and what transformers takes where the key is absent (it leaves out
# what equals its defaults).
Keys = dict[str, tuple[str, Any]]
_LLAMA_KEYS: Keys = {
    "vocab_size": ("vocab_size", 32000),
    "context_length": ("max_position_embeddings", 2048),
    "n_layers": ("num_hidden_layers", 32),
    "d_model": ("hidden_size", 4096),
    "n_heads": ("num_attention_heads", 32),
    "n_kv_heads": ("num_key_value_heads", None),
    "head_dim": ("head_dim", None),
    "d_ff": ("intermediate_size", 11008),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "attention_bias": ("attention_bias", False),
    "mlp_bias": ("mlp_bias", False),
    "tie_embeddings": ("tie_word_embeddings", False),
}
KEYS: dict[FamilyName, Keys] = {
    "llama": _LLAMA_KEYS,
    "qwen3": {
        **{ours: key for ours, key in _LLAMA_KEYS.items() if ours != "mlp_bias"},
        "vocab_size": ("vocab_size", 151936),
        "context_length": ("max_position_embeddings", 32768),
        "n_kv_heads": ("num_key_value_heads", 32),
        "head_dim": ("head_dim", 128),
        "d_ff": ("intermediate_size", 22016),
    },
    "gpt2": {
        "vocab_size": ("vocab_size", 50257),
        "context_length": ("n_positions", 1024),
        "n_layers": ("n_layer", 12),
        "d_model": ("n_embd", 768),
        "n_heads": ("n_head", 12),
        "d_ff": ("n_inner", None),
        "norm_eps": ("layer_norm_epsilon", 1e-5),
        "tie_embeddings": ("tie_word_embeddings", True),
    },
    "bert": {
        "vocab_size": ("vocab_size", 30522),
        "context_length": ("max_position_embeddings", 512),
        "n_layers": ("num_hidden_layers", 12),
        "d_model": ("hidden_size", 768),
        "n_heads": ("num_attention_heads", 12),
        "d_ff": ("intermediate_size", 3072),
        "norm_eps": ("layer_norm_eps", 1e-12),
        "tie_embeddings": ("tie_word_embeddings", True),
    },
}

# Keys of config.json that are the same in every model of ours, by family: written so, and refused if other.
# The first value is what we write; absent keys mean it, too.
FIXED: dict[FamilyName, dict[str, tuple[Any, ...]]] = {
    "llama": {"hidden_act": ("silu", "swish")},
    "qwen3": {"hidden_act": ("silu", "swish"), "use_sliding_window": (False,)},
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "bert": {
        "hidden_act": ("gelu",),
        "type_vocab_size": (2,),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
}
DROPOUTS: dict[FamilyName, tuple[str, ...]] = {  # written as 0: we train without
    "llama": ("attention_dropout",),
    "qwen3": ("attention_dropout",),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}

# Part of our weights' names -> of theirs. What has the same name there is one matrix there (GPT-2's q, k, v).
NAMES: dict[FamilyName, dict[str, str]] = {
    "qwen3": {},
    "llama": {},
    "gpt2": {
        "model.embed_tokens.": "transformer.wte.",
        "model.embed_positions.": "transformer.wpe.",
        "model.layers.": "transformer.h.",
        ".input_layernorm.": ".ln_1.",
        ".self_attn.q_proj.": ".attn.c_attn.",
        ".self_attn.k_proj.": ".attn.c_attn.",
        ".self_attn.v_proj.": ".attn.c_attn.",
        ".self_attn.o_proj.": ".attn.c_proj.",
        ".post_attention_layernorm.": ".ln_2.",
        ".mlp.up_proj.": ".mlp.c_fc.",
        ".mlp.down_proj.": ".mlp.c_proj.",
        "model.norm.": "transformer.ln_f.",
    },
    "bert": {
        "model.embed_tokens.": "bert.embeddings.word_embeddings.",
        "model.embed_positions.": "bert.embeddings.position_embeddings.",
        "model.embed_types.": "bert.embeddings.token_type_embeddings.",
        "model.embed_norm.": "bert.embeddings.LayerNorm.",
        "model.layers.": "bert.encoder.layer.",
        ".self_attn.q_proj.": ".attention.self.query.",
        ".self_attn.k_proj.": ".attention.self.key.",
        ".self_attn.v_proj.": ".attention.self.value.",
        ".self_attn.o_proj.": ".attention.output.dense.",
        ".input_layernorm.": ".attention.output.LayerNorm.",
        ".mlp.up_proj.": ".intermediate.dense.",
        ".mlp.down_proj.": ".output.dense.",
        ".post_attention_layernorm.": ".output.LayerNorm.",
        "transform.0.": "cls.predictions.transform.dense.",
        "transform.2.": "cls.predictions.transform.LayerNorm.",
        "lm_head.": "cls.predictions.decoder.",
    },
}
# Names of older files and of models without a head: GPT-2 and BERT without prefix, TensorFlow's words for LayerNorm.
OLD_NAMES = {
    r"^(wte|wpe|h|ln_f)\.": r"transformer.\1.",
    r"^(embeddings|encoder|pooler)\.": r"bert.\1.",
    r"\.gamma$": ".weight",
    r"\.beta$": ".bias",
}
# Tensors that a folder may hold beside the weights: masks and tables, BERT's pooler and next-sentence head.
UNUSED = re.compile(
    r"\.attn\.(masked_)?bias$|\.rotary_emb\.inv_freq$|\.position_ids$|\.pooler\.|^cls\.(seq_relationship\.|predictions\.bias$)"
)


def to_hub_config(config: ModelConfig, *, eos_token_id: int | None, pad_token_id: int | None) -> dict[str, Any]:
    """`config.json` as both transformers 4 (`rope_theta`, `torch_dtype`) and 5 read it."""
    family, fields = FAMILIES[config.family], config.model_dump()
    written = {
        "architectures": [family.architecture],
        "model_type": config.family,
        **{key: fields[ours] for ours, (key, _) in KEYS[config.family].items()},
        **{key: values[0] for key, values in FIXED[config.family].items()},
        **dict.fromkeys(DROPOUTS[config.family], 0.0),
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "dtype": "float32",
        "torch_dtype": "float32",
        "use_cache": True,
    }
    if family.positions == "rope":
        rope: dict[str, Any] = {"rope_type": "default"}
        if scaling := config.rope_scaling:
            rope = {"rope_type": "llama3", **scaling.model_dump()}
            rope["original_max_position_embeddings"] = rope.pop("original_context_length")
            written["rope_scaling"] = rope
        written |= {"rope_theta": config.rope_theta, "rope_parameters": {**rope, "rope_theta": config.rope_theta}}
    return written


def from_hub_config(config: dict[str, Any], source: Path) -> ModelConfig:
    """Our configuration from a `config.json`.

    Raises:
        UserError: a family or a setting that we lack; all such settings are named.
    """
    family = config.get("model_type") if isinstance(config, dict) else None
    if family not in FAMILIES:
        raise UserError(f"{source} is a {family!r} model; WikiGPT loads these families: {', '.join(sorted(FAMILIES))}.")
    name: FamilyName = family
    if problems := _unsupported(config, name):
        raise UserError(f"{source} cannot be used: {'; '.join(problems)}.")
    values: dict[str, Any] = {ours: config.get(key, default) for ours, (key, default) in KEYS[name].items()}
    if FAMILIES[name].positions == "rope":
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        values["rope_theta"] = rope.get("rope_theta") or config.get("rope_theta") or 10_000.0
        if _rope_type(rope) == "llama3":
            original = rope.get("original_max_position_embeddings", values["context_length"])
            factors = {key: rope.get(key) for key in ("factor", "low_freq_factor", "high_freq_factor")}
            values["rope_scaling"] = {**factors, "original_context_length": original}
    try:
        return ModelConfig(family=name, **values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{source}: {where}{': ' if where else ''}{problem['msg']}.") from None


def _rope_type(rope: dict[str, Any]) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


def _unsupported(config: dict[str, Any], family: FamilyName) -> list[str]:
    """What of a `config.json` we would compute wrongly, a phrase each."""
    problems = [
        f"{key} is {config[key]!r}, but only {' or '.join(map(repr, values))} is supported"
        for key, values in FIXED[family].items()
        if config.get(key, values[0]) not in values
    ]
    if config.get("auto_map"):
        problems.append("auto_map asks to run code of the model's own")
    if config.get("quantization_config") not in (None, rounding.CONFIG):
        problems.append("its weights are quantised (quantization_config); take the unquantised model")
    known = {FAMILIES[family].architecture} | ({"BertForPreTraining"} if family == "bert" else set())
    if other := set(config.get("architectures") or ()) - known:
        problems.append(f"its architecture is {', '.join(sorted(other))}, not {FAMILIES[family].architecture}")
    if FAMILIES[family].positions == "rope":
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if _rope_type(rope) not in ("default", "llama3"):
            problems.append(f"rope_type {_rope_type(rope)!r} is not supported, only 'default' and 'llama3'")
        if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1)) != 1:
            problems.append("partial_rotary_factor is not supported")
        if other := set(config.get("layer_types") or ()) - {"full_attention"}:
            problems.append(f"layer_types holds {', '.join(sorted(other))}, but only full_attention is supported")
    return problems


def hub_names(model: Transformer) -> dict[str, list[str]]:
    """transformers' name of each weight, and our names of the parts it is joined from."""
    config = model.config
    names: dict[str, list[str]] = {}
    for ours in model.state_dict():
        theirs = ours
        for part, other in NAMES[config.family].items():
            theirs = theirs.replace(part, other)
        if config.tie_embeddings:
            if ours == "lm_head.weight":
                continue
            # Of a tied head transformers keeps the bias outside of the linear layer.
            theirs = theirs.replace("cls.predictions.decoder.bias", "cls.predictions.bias")
        names.setdefault(theirs, []).append(ours)
    return names


def _is_transposed(family: FamilyName, theirs: str) -> bool:
    """GPT-2's blocks hold `Conv1D` layers, whose matrices are [inputs, outputs]."""
    return family == "gpt2" and theirs.endswith(".weight") and (".attn." in theirs or ".mlp." in theirs)


def to_hub_weights(model: Transformer, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names (weights, or their gradients) in transformers' layout."""
    joined = {theirs: torch.cat([weights[name] for name in ours]) for theirs, ours in hub_names(model).items()}
    family = model.config.family
    return {name: (t.t() if _is_transposed(family, name) else t).contiguous() for name, t in joined.items()}


def save_model(
    model: Transformer,
    folder: Path,
    *,
    tokenizer: Path,
    card: str = "",
    origin: dict[str, Any] | None = None,
    int8: bool = False,
) -> None:
    """Write a complete model folder, atomically: configuration, fp32 weights, tokenizer, model card.

    Args:
        tokenizer: folder whose tokenizer files are copied.
        card: text of the model card `README.md`.
        origin: what is known of the model of others that this one is or was made from.
        int8: round the weights (see `rounding`), for a file that only WikiGPT reads.
    """
    check_output_folder(folder, "config.json")
    loaded = load_tokenizer(tokenizer)
    end, im_end, pad = (loaded.token_to_id(token) for token in (END_OF_TEXT, IM_END, PAD))
    with atomic_folder(folder) as target:
        write_weights(model, target / WEIGHTS, int8=int8)
        config = to_hub_config(model.config, eos_token_id=end, pad_token_id=pad)
        if int8:
            config["quantization_config"] = rounding.CONFIG
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if FAMILIES[model.config.family].causal:
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
        if origin:
            write_json(target / IMPORTED, origin)


def write_weights(model: Transformer, path: Path, *, int8: bool = False) -> None:
    """Weights under transformers' names; a tied head is left out, as transformers expects."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    weights = to_hub_weights(model, state)
    save_file(rounding.rounded(weights) if int8 else weights, path, metadata={"format": "pt"})


@torch.no_grad()
def read_weights(model: Transformer, *paths: Path, headless: bool = False) -> None:
    """Load weights in place, converted to the model's precision.

    Args:
        headless: a masked model's head need not be there, and is then what it was.

    Raises:
        UserError: a file is missing or damaged; weights are missing, surplus, misshapen or quantised.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            found |= load_file(path)
        except FileNotFoundError:
            raise UserError(f"{path} is missing, so the model has no weights.") from None
        except SafetensorError as error:
            raise UserError(f"{path} is damaged ({error}).") from None
    found = rounding.restored(found, paths[0])
    for old, new in OLD_NAMES.items():
        found = {re.sub(old, new, name): tensor for name, tensor in found.items()}
    family, ours, names = model.config.family, model.state_dict(), hub_names(model)
    problems = []
    for theirs, parts in names.items():
        sizes = [ours[part].shape[0] for part in parts]
        wanted = [sum(sizes), *ours[parts[0]].shape[1:]]
        if _is_transposed(family, theirs):
            wanted.reverse()
        tensor = found.pop(theirs, None)
        if tensor is None and headless and theirs.startswith("cls."):
            continue
        if tensor is None:
            problems.append(f"{theirs} is missing")
        elif not tensor.is_floating_point() or tensor.element_size() < 2:
            problems.append(f"{theirs} is quantised ({tensor.dtype})")
        elif list(tensor.shape) != wanted:
            problems.append(f"{theirs} has shape {list(tensor.shape)}, not {wanted}")
        else:
            matrix = tensor.t() if _is_transposed(family, theirs) else tensor
            for part, piece in zip(parts, matrix.split(sizes), strict=True):
                ours[part].copy_(piece)
    problems += [problem for name, tensor in found.items() if (problem := _why_surplus(model, name, tensor))]
    if problems:
        more = f", and {len(problems) - 3} more problems" if len(problems) > 3 else ""
        raise UserError(f"{paths[0]} does not fit its config.json: {', '.join(problems[:3])}{more}.")


def _why_surplus(model: Transformer, name: str, tensor: Tensor) -> str | None:
    """What is wrong with a tensor that we have no place for; None: it is a copy, a table, or nothing we use."""
    if model.config.tie_embeddings and name in ("lm_head.weight", "cls.predictions.decoder.weight"):
        if torch.equal(model.lm_head.weight, tensor.to(model.lm_head.weight)):
            return None
        return f"{name} differs from the embedding, although tie_word_embeddings is set"
    if UNUSED.search(name) or (model.config.tie_embeddings and name == "cls.predictions.decoder.bias"):
        return None
    return f"{name} is unknown"


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files: one, or those that the index of a sharded model names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        try:
            names = sorted(set(index["weight_map"].values()))
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{folder / INDEX} has no weight_map, so its weights cannot be found.") from None
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise UserError(f"{folder / INDEX} names {name!r}, which is no safetensors file of this folder.")
        return [folder / name for name in names]
    if pickled := sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")):
        raise UserError(
            f"{folder} holds its weights only as a pickle ({pickled[0]}), which can run code when it is read; "
            "take the model's safetensors version, or convert it where you trust it."
        )
    raise UserError(f"{folder / WEIGHTS} is missing, so the model has no weights.")


def load_config(folder: Path, *, headless: bool = False) -> ModelConfig:
    """The shape of the model in a folder; `UserError` where it is missing, damaged, or not supported."""
    config = read_json(folder / "config.json")
    if headless and isinstance(config, dict) and config.get("architectures") == ["BertModel"]:
        del config["architectures"]
    return from_hub_config(config, folder / "config.json")


def load_model(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    headless: bool = False,
) -> Transformer:
    """Load a model folder for inference. Nothing in it is executed: no pickle, no `auto_map`.

    Args:
        headless: take a masked model whose head is not there (embedding models have none); its logits mean nothing.

    Raises:
        UserError: the folder is incomplete, damaged, or of a kind that is not supported.
    """
    config = load_config(folder, headless=headless)
    files = weight_files(folder)
    held = sum(path.stat().st_size for path in files if path.is_file())
    if config.n_parameters > held > 0:  # before a config.json that lies has memory set aside for it
        raise UserError(
            f"{files[0]} is damaged, or of another model: config.json describes {config.n_parameters:,} weights, but "
            f"there are only {held:,} bytes."
        )
    with torch.device("meta"):  # no time spent on random numbers that are overwritten
        model = Transformer(config)
    model.to_empty(device="cpu").tie()
    read_weights(model, *files, headless=headless)
    return model.to(device=device, dtype=dtype).eval()
