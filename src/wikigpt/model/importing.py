"""Models that others trained: a Hugging Face folder or a GGUF file becomes a model of ours.

Only safetensors and GGUF are read, and nothing in them is executed: no pickle, no `auto_map`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer

from wikigpt.artifacts import atomic_folder, check_output_folder, read_json
from wikigpt.errors import UserError
from wikigpt.model.config import FAMILIES, ModelConfig
from wikigpt.model.gguf import GGUFFile, load_gguf, read_config, read_tokenizer, tokenizer_settings
from wikigpt.model.hub import IMPORTED, load_config, load_model, save_model
from wikigpt.model.transformer import Transformer
from wikigpt.tokens.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, IM_END, IM_START, load_tokenizer

NEEDED_TOKENS = (END_OF_TEXT, IM_START, IM_END)  # what opens an article, and ChatML's two
# Of a repository on the hub: weights as safetensors alone, and what describes them.
DOWNLOADED = ("*.safetensors", "*.json", "*.jinja")


def import_model(source: Path, output: Path, *, name: str = "") -> dict[str, Any]:
    """Write the model of a Hugging Face folder or a GGUF file to `output`, as one of our model folders.

    Returns the facts about it, which `import.json` holds, too: family, number of weights, added tokens, …

    Args:
        name: what the model is called; default: the name of the folder or file.

    Raises:
        UserError: there is no such model, it is damaged, or of a kind that we lack.
    """
    check_output_folder(output, "config.json")
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = Path(temporary)
        added = save_pretrained_tokenizer(source, tokenizer)
        model = load_pretrained(source, load_tokenizer(tokenizer))
        facts: dict[str, Any] = {
            "source": name or source.name,
            "family": model.config.family,
            "parameters": model.config.n_parameters,
            "vocab_size": model.config.vocab_size,
            "context_length": model.config.context_length,
            "added_tokens": added,
        }
        save_model(model, output, tokenizer=tokenizer, card=_card(facts["source"], model.config), origin=facts)
    return facts


def check_pretrained(source: Path) -> None:
    """Raise `UserError` unless this is a model folder or GGUF file of a family that we have."""
    if not source.exists():
        raise UserError(
            f"there is no file or folder {source}; give a model folder or a .gguf file, or, to fetch a model of that "
            "name from huggingface.co, use `wikigpt import NAME --download`."
        )
    if source.suffix == ".gguf":
        read_config(GGUFFile(source))
    elif not (source / "config.json").is_file():
        raise UserError(f"{source} is neither a .gguf file nor a model folder: it holds no config.json.")
    else:
        load_config(source)


def origin_of(source: Path) -> dict[str, Any] | None:
    """What is known of a model that others trained, or that was made from one; None: one trained from noise here."""
    if (source / IMPORTED).is_file():
        return dict(read_json(source / IMPORTED))
    template = source / "chat_template.jinja"
    if template.is_file() and template.read_text(encoding="utf-8") == CHAT_TEMPLATE:
        return None
    return {"source": source.name}


def weight_files(source: Path) -> list[Path]:
    """The files that hold a pretrained model's weights."""
    return [source] if source.is_file() else sorted(source.glob("*.safetensors"))


def save_pretrained_tokenizer(source: Path, folder: Path, *, chat_template: str | None = None) -> list[str]:
    """Write the tokenizer files of a model folder or GGUF file into an existing folder.

    Tokens of `NEEDED_TOKENS` that the tokenizer lacks are added at its end; returns them.

    Args:
        chat_template: takes the place of the model's own.
    """
    check_pretrained(source)
    if source.suffix == ".gguf":
        file = GGUFFile(source)
        tokenizer, settings = read_tokenizer(file), tokenizer_settings(file)
    else:
        tokenizer = load_tokenizer(source)
        config = source / "tokenizer_config.json"
        settings = read_json(config) if config.is_file() else {}
        settings.pop("auto_map", None)
        if (source / "chat_template.jinja").is_file():
            settings["chat_template"] = (source / "chat_template.jinja").read_text(encoding="utf-8")
    added = [token for token in NEEDED_TOKENS if tokenizer.token_to_id(token) is None]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    if chat_template or added or not isinstance(settings.get("chat_template"), str):
        settings["chat_template"] = chat_template or CHAT_TEMPLATE
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(settings["chat_template"], encoding="utf-8")
    return added


def pretrained_tokenizer(base: Path, output: Path) -> dict[str, Any]:
    """Write the tokenizer of a pretrained model to `output`, with the chat format that we train on."""
    check_output_folder(output, "tokenizer.json")
    with atomic_folder(output) as folder:
        added = save_pretrained_tokenizer(base, folder, chat_template=CHAT_TEMPLATE)
    return {"vocab_size": load_tokenizer(output).get_vocab_size(), "base": str(base), "added_tokens": added}


def load_pretrained(source: Path, tokenizer: Tokenizer) -> Transformer:
    """The model of a folder or GGUF file in fp32, with a row in its embedding for each token of `tokenizer`.

    Rows for added tokens begin as the mean of the others.
    """
    check_pretrained(source)
    model = load_gguf(GGUFFile(source)) if source.suffix == ".gguf" else load_model(source)
    missing = tokenizer.get_vocab_size() - model.config.vocab_size
    return _widened(model, missing) if missing > 0 else model


def download(name: str) -> Path:
    """Fetch a model from the Hugging Face hub: "owner/model", or "owner/model/file.gguf".

    Raises:
        UserError: no such model, no connection, or the package huggingface_hub is missing.
    """
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UserError("--download needs the package huggingface_hub: pip install 'wikigpt[hub]'.") from None
    try:
        if name.endswith(".gguf") and name.count("/") >= 2:
            owner, model, file = name.split("/", 2)
            return Path(hf_hub_download(f"{owner}/{model}", file))
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} cannot be downloaded from huggingface.co: {reason}") from None


@torch.no_grad()
def _widened(model: Transformer, n_more: int) -> Transformer:
    """The model with rows for so many more tokens, each the mean of the others (Hewitt 2021)."""
    wider = Transformer(model.config.model_copy(update={"vocab_size": model.config.vocab_size + n_more}))
    state = model.state_dict()
    for name, weight in state.items():
        if weight.shape != wider.state_dict()[name].shape:
            state[name] = torch.cat([weight, weight.mean(0, keepdim=True).expand(n_more, *weight.shape[1:])])
    wider.load_state_dict(state)
    return wider.eval()


def _card(name: str, config: ModelConfig) -> str:
    return f"""---
library_name: transformers
pipeline_tag: {"text-generation" if FAMILIES[config.family].causal else "fill-mask"}
tags: [wikigpt]
---
# {name}

Imported by WikiGPT from `{name}`; the weights are its makers', and so is their licence. Read it there.
"""
