"""GGUF files of our models, for llama.cpp and what is built on it.

llama.cpp's own converter knows only tokenizers of models that it has a list of; here the package `gguf` writes what
`wikigpt.model.gguf` reads.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer

from wikigpt.errors import UserError
from wikigpt.model import Transformer
from wikigpt.model.config import ModelConfig
from wikigpt.model.gguf import ARCHITECTURES, CONFIG_KEYS, PRE_TOKENIZERS, llama_cpp_name, package, paired_rows
from wikigpt.model.transformer import stretched
from wikigpt.tokens.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, IM_END, IM_START, PAD

WeightType = Literal["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0"]
CONTROL, NORMAL = 3, 1  # kinds of tokens


@torch.no_grad()
def write_gguf(model: Transformer, tokenizer: Tokenizer, path: Path, *, weights: WeightType = "q8_0") -> None:
    """Write a causal model and its tokenizer as one GGUF file, complete or not at all.

    Args:
        weights: how matrices are kept; vectors, and rows that do not divide into blocks of 32, stay floating point.

    Raises:
        UserError: llama.cpp has no such family or tokenizer, or the package is missing.
    """
    check_writable(model.config)
    pre = pre_tokenizer_name(tokenizer)
    library = package("writing")
    config = model.config
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unfinished = Path(folder) / path.name
        writer = library.GGUFWriter(unfinished, config.family)
        writer.add_file_type(getattr(library.LlamaFileType, _FILE_TYPES[weights]))
        _add_shape(writer, config)
        _add_tokenizer(writer, tokenizer, pre)
        _add_tensors(writer, model, library, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        unfinished.replace(path)


_FILE_TYPES = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "bf16": "MOSTLY_BF16",
    "q8_0": "MOSTLY_Q8_0",
    "q5_0": "MOSTLY_Q5_0",
    "q4_0": "MOSTLY_Q4_0",
}


def check_writable(config: ModelConfig) -> None:
    """Raise `UserError` if llama.cpp could not run a model of this shape as we do."""
    if config.family not in ARCHITECTURES.values():
        raise UserError(
            f"this is a {config.family} model; as GGUF, {' and '.join(sorted(ARCHITECTURES))} models can be written."
        )
    if config.attention_bias or config.mlp_bias:
        raise UserError("this model's layers have biases, which have no place in a GGUF file of its family.")


def pre_tokenizer_name(tokenizer: Tokenizer) -> str:
    """What llama.cpp calls the way in which a tokenizer splits text; `UserError` if it has no name for it."""
    state = json.loads(tokenizer.to_str())
    splitting = state["pre_tokenizer"] or {}
    steps = splitting.get("pretokenizers", [splitting])
    patterns = tuple(step["pattern"].get("Regex", "") for step in steps if step.get("type") == "Split")
    for name, theirs in PRE_TOKENIZERS.items():
        if state["model"]["type"] == "BPE" and patterns == theirs:
            return name
    raise UserError("this model's tokenizer splits text in a way that GGUF files have no name for.")


def _add_shape(writer: Any, config: ModelConfig) -> None:
    values = {ours: getattr(config, ours) for ours in CONFIG_KEYS}
    values |= {"n_kv_heads": config.kv_heads, "head_dim": config.key_dim, "d_ff": config.mlp_dim}
    values["norm_eps"] = config.epsilon
    for ours, (key, kind) in CONFIG_KEYS.items():
        (writer.add_uint32 if kind is int else writer.add_float32)(f"{config.family}.{key}", values[ours])
    writer.add_vocab_size(config.vocab_size)
    writer.add_value_length(config.key_dim)
    writer.add_rope_dimension_count(config.key_dim)


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, pre: str) -> None:
    size = tokenizer.get_vocab_size()
    special = tokenizer.get_added_tokens_decoder()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([tokenizer.id_to_token(i) for i in range(size)])
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(size)])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_add_bos_token(False)
    for add, name in (
        (writer.add_eos_token_id, IM_END),
        (writer.add_eot_token_id, END_OF_TEXT),
        (writer.add_pad_token_id, PAD),
    ):
        if (index := tokenizer.token_to_id(name)) is not None:
            add(index)
    if tokenizer.token_to_id(IM_START) is not None:
        # llama.cpp's templates know no `generation` blocks, which are for trainers.
        writer.add_chat_template(CHAT_TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", ""))


def _add_tensors(writer: Any, model: Transformer, library: Any, weights: WeightType) -> None:
    config, kinds = model.config, library.GGMLQuantizationType
    wanted = kinds[weights.upper()]
    block = library.GGML_QUANT_SIZES[wanted][0]
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_embeddings:
            continue
        values = tensor.float()
        if config.family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = paired_rows(values, config.key_dim)
        kind = kinds.F32 if values.dim() == 1 else wanted if values.shape[1] % block == 0 else kinds.F16
        writer.add_tensor(llama_cpp_name(name), library.quantize(values.numpy(), kind), raw_dtype=kind)
    if config.rope_scaling:
        frequencies = config.rope_theta ** -(torch.arange(0, config.key_dim, 2) / config.key_dim)
        divisors = (frequencies / stretched(frequencies, config.rope_scaling)).numpy()
        writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))
