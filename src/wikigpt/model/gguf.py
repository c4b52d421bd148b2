"""GGUF, llama.cpp's one-file format: shape, weights and tokenizer of a model that others trained.

The layout is that of the specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): a header
of key-value pairs, a table of tensors, then their data. The header is read here and not by the package
`gguf`, whose reader believes every count it finds: an array said to hold 2**60 numbers fills the memory.
The package then turns quantised blocks into numbers.
"""

import math
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from wikigpt.errors import UserError
from wikigpt.model.config import FamilyName, ModelConfig, RopeScaling
from wikigpt.model.transformer import Transformer, stretched
from wikigpt.tokens.tokenizer import QWEN2_PATTERN

STRING, ARRAY = 8, 9
# Value type -> how numpy knows it, little-endian.
NUMBERS = dict(enumerate(("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | {10: "<u8", 11: "<i8", 12: "<f8"}
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens
MOST_DIMENSIONS = 4

# `general.architecture` -> our family.
ARCHITECTURES: dict[str, FamilyName] = {"llama": "llama", "qwen3": "qwen3"}

# Our field -> the key after "ARCHITECTURE.", and its type.
CONFIG_KEYS: dict[str, tuple[str, type]] = {
    "context_length": ("context_length", int),
    "n_layers": ("block_count", int),
    "d_model": ("embedding_length", int),
    "n_heads": ("attention.head_count", int),
    "n_kv_heads": ("attention.head_count_kv", int),
    "head_dim": ("attention.key_length", int),
    "d_ff": ("feed_forward_length", int),
    "rope_theta": ("rope.freq_base", float),
    "norm_eps": ("attention.layer_norm_rms_epsilon", float),
}

# Our names -> llama.cpp's, with ".weight" after each.
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# What llama.cpp (src/llama-vocab.cpp) splits a text by, one pattern after the other, by the name of the
# pre-tokenizer. A file without a name means "default".
PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2_PATTERN, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2": (GPT2_PATTERN,),
    "smollm": (r"\p{N}", GPT2_PATTERN),
    "qwen2": (QWEN2_PATTERN,),
    "llama-bpe": (LLAMA3_PATTERN,),
}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies in the file, and how."""

    shape: tuple[int, ...]  # outermost dimension first, as torch has it
    kind: int  # ggml's number of the type
    start: int
    n_bytes: int


class GGUFFile:
    """An open GGUF file: `metadata` by key, and the table of its tensors.

    Nothing is believed that the file's own length does not bear out: what is read takes memory in
    proportion to the file.

    Raises:
        UserError: not a GGUF file, of another version, or damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self._gguf = package("reading")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at, self.n_bytes = 4, len(self._data)
        version = self._number("<u4")
        if version not in (2, 3):
            raise UserError(f"{path} is GGUF version {version}; versions 2 and 3 (little-endian) can be read.")
        n_tensors, n_values = self._number("<u8"), self._number("<u8")
        self.metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = self._string()
            self.metadata[key] = self._value(self._number("<u4"), key)
        if self.value("split.count", int, 0) > 1:
            raise UserError(f"{path} is one part of several; join them with llama.cpp's `llama-gguf-split --merge`.")
        table = [self._table_entry() for _ in range(n_tensors)]
        alignment = self.value("general.alignment", int, 32)
        if alignment < 1:
            raise self._damaged(f"general.alignment is {alignment}")
        data = -(-self._at // alignment) * alignment
        self.tensors = {name: self._checked(name, entry, data) for name, entry in table}
        if len(self.tensors) < n_tensors:
            raise self._damaged("two tensors have the same name")

    def value(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of a key, `default` where it is absent; `UserError` if it is of another kind."""
        value = self.metadata.get(key, default)
        if value is not default and not isinstance(value, kind):
            raise self._damaged(f"{key} is not of the type {kind.__name__}")
        return value

    def tensor(self, name: str) -> np.ndarray:
        """A tensor's numbers, dequantised: fp32, of the entry's shape, in memory of its own."""
        entry = self.tensors[name]
        kind = self._gguf.GGMLQuantizationType(entry.kind)
        raw = np.frombuffer(self._data, dtype=np.uint8, count=entry.n_bytes, offset=entry.start)
        try:
            values = self._gguf.dequantize(raw.reshape(*entry.shape[:-1], -1), kind)
        except NotImplementedError:
            raise UserError(f"{self.path}: {name} is of type {kind.name}, which cannot be read yet.") from None
        return np.array(values, dtype=np.float32).reshape(entry.shape)

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self.path} is damaged: {what}. Get the file again.")

    def _take(self, n_bytes: int) -> bytes:
        if n_bytes > self.n_bytes - self._at:
            raise self._damaged(f"it ends at byte {self.n_bytes:,}, but {n_bytes:,} more are said to follow")
        self._at += n_bytes
        return self._data[self._at - n_bytes : self._at]

    def _number(self, kind: str) -> Any:
        dtype = np.dtype(kind)
        value = np.frombuffer(self._take(dtype.itemsize), dtype)[0]
        # The shortest number that fp32 rounds so: 1e-05 and not 9.999999747378752e-06.
        return float(str(value)) if kind == "<f4" else value.item()

    def _string(self) -> str:
        try:
            return self._take(self._number("<u8")).decode()
        except UnicodeDecodeError:
            raise self._damaged(f"the text before byte {self._at:,} is not UTF-8") from None

    def _value(self, kind: int, key: str) -> Any:
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            raise self._damaged(f"{key} has a value of the unknown type {kind}")
        kind, count = self._number("<u4"), self._number("<u8")
        if kind in NUMBERS:
            return np.frombuffer(self._take(count * np.dtype(NUMBERS[kind]).itemsize), NUMBERS[kind])
        if kind != STRING:
            raise self._damaged(f"{key} is an array of the unknown type {kind}")
        return [self._string() for _ in range(count)]

    def _table_entry(self) -> tuple[str, TensorEntry]:
        name, n_dimensions = self._string(), self._number("<u4")
        if n_dimensions > MOST_DIMENSIONS:
            raise self._damaged(f"tensor {name!r} has {n_dimensions:,} dimensions")
        shape = tuple(self._number("<u8") for _ in range(n_dimensions))[::-1]
        return name, TensorEntry(shape, self._number("<u4"), self._number("<u8"), 0)

    def _checked(self, name: str, entry: TensorEntry, data: int) -> TensorEntry:
        """The entry with its place in the whole file, once that is known to lie within it."""
        try:
            block, block_bytes = self._gguf.GGML_QUANT_SIZES[self._gguf.GGMLQuantizationType(entry.kind)]
        except (ValueError, KeyError):
            raise UserError(f"{self.path}: tensor {name!r} is of type {entry.kind}, which is not known.") from None
        n_values = int(np.prod(np.array(entry.shape, dtype=object)))  # whole numbers of any size: no overflow
        if not entry.shape or entry.shape[-1] % block:
            raise self._damaged(f"tensor {name!r} of shape {entry.shape} is not made of blocks of {block}")
        n_bytes, start = n_values // block * block_bytes, data + entry.start
        if start + n_bytes > self.n_bytes:
            raise self._damaged(f"tensor {name!r} lies beyond its end")
        return TensorEntry(entry.shape, entry.kind, start, n_bytes)


def read_config(file: GGUFFile) -> ModelConfig:
    """The shape of the model in a GGUF file; `UserError` for a family or feature that we lack."""
    architecture = file.value("general.architecture", str)
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"{file.path} is a {architecture!r} model; WikiGPT reads these families from GGUF files: "
            f"{', '.join(sorted(ARCHITECTURES))}."
        )

    def value(key: str, kind: type = int) -> Any:
        return file.value(f"{architecture}.{key}", kind)

    if value("expert_count"):
        raise UserError(f"{file.path} is a mixture of experts, which is not supported.")
    fields = {ours: value(key, kind) for ours, (key, kind) in CONFIG_KEYS.items()}
    for name in ("n_layers", "d_model", "n_heads", "d_ff"):
        if not fields[name]:
            raise UserError(f"{file.path} has no {architecture}.{CONFIG_KEYS[name][0]}; it is not a complete model.")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(file.tensors) < fields["n_layers"]:
        raise UserError(f"{file.path} lacks tensors of the model that it describes; it may hold a tokenizer only.")
    try:
        config = ModelConfig(
            family=ARCHITECTURES[architecture],
            vocab_size=embedding.shape[0],
            tie_embeddings="output.weight" not in file.tensors,
            **{name: field for name, field in fields.items() if field is not None},
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        raise UserError(f"{file.path}: {where}{problem['msg'].removeprefix('Value error, ')}.") from None
    if max(config.d_model, config.mlp_dim, config.n_heads * config.key_dim) > file.n_bytes:
        raise UserError(f"{file.path} is damaged: it is too short for a model as wide as it describes. Get it again.")
    for key in ("rope.dimension_count", "attention.value_length"):
        if value(key) not in (None, config.key_dim):
            raise UserError(f"{file.path}: {architecture}.{key} is {value(key)}; only {config.key_dim} is supported.")
    scaled = (value("rope.scaling.type", str) or "none") != "none" or (value("rope.scale_linear", float) or 1.0) != 1.0
    if scaled or "rope_freqs.weight" in file.tensors:
        return config.model_copy(update={"rope_scaling": _rope_scaling(file, config)})
    return config


def _rope_scaling(file: GGUFFile, config: ModelConfig) -> RopeScaling:
    """How Llama 3.1 and later stretch the positions.

    A file holds only what each frequency is divided by, in `rope_freqs.weight`. The slowest waves are
    divided by the factor itself; the other three numbers have been the same in every release.
    """
    unsupported = UserError(f"{file.path} scales its rotary positions otherwise than Llama 3, which is not supported.")
    if "rope_freqs.weight" not in file.tensors:
        raise unsupported
    divisors = torch.from_numpy(file.tensor("rope_freqs.weight"))
    factor = float(divisors.max()) if divisors.shape == (config.key_dim // 2,) else 0.0
    if not 0 < factor < math.inf:
        raise unsupported
    scaling = RopeScaling(factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192)
    frequencies = config.rope_theta ** -(torch.arange(0, config.key_dim, 2) / config.key_dim)
    if not torch.allclose(frequencies / stretched(frequencies, scaling), divisors, rtol=1e-3):
        raise unsupported
    return scaling


@torch.no_grad()
def load_gguf(file: GGUFFile) -> Transformer:
    """The model in a GGUF file, its weights dequantised to fp32.

    Raises:
        UserError: the family or a type of weights is not supported, or tensors do not fit the shape.
    """
    config = read_config(file)
    with torch.device("meta"):  # names and shapes only: nothing is allocated before all are known to fit
        model = Transformer(config)
    weights = model.state_dict()
    if config.tie_embeddings:
        del weights["lm_head.weight"]
    places = {name: llama_cpp_name(name) for name in weights}
    for name, theirs in places.items():
        wanted, found = tuple(weights[name].shape), file.tensors[theirs].shape if theirs in file.tensors else "missing"
        if found != wanted:
            raise UserError(f"{file.path}: tensor {theirs} should be of shape {wanted}, but is {found}.")
    if surplus := sorted(file.tensors.keys() - set(places.values()) - {"rope_freqs.weight"}):
        raise UserError(f"{file.path} holds {surplus[0]}, which has no place in a {config.family} model of ours.")
    model.to_empty(device="cpu").tie()
    weights = model.state_dict()
    for name, theirs in places.items():
        weights[name].copy_(_weight(file, name, theirs, config))
    return model.eval()


def llama_cpp_name(name: str) -> str:
    """What llama.cpp calls a weight of ours."""
    stem = name.removesuffix(".weight")
    if layer := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem):
        return f"blk.{layer[1]}.{BLOCK_NAMES[layer[2]]}.weight"
    return f"{NAMES[stem]}.weight"


def _weight(file: GGUFFile, name: str, theirs: str, config: ModelConfig) -> torch.Tensor:
    weight = torch.from_numpy(file.tensor(theirs))
    if config.family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        # Undoes `paired_rows`.
        pairs = weight.view(-1, config.key_dim // 2, 2, weight.shape[1])
        weight = pairs.transpose(1, 2).reshape(weight.shape)
    return weight


def paired_rows(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """The rows of a Llama's query or key matrix in the order that llama.cpp has them.

    It turns neighbours (x[2i], x[2i+1]) by an angle, where transformers turns halves (x[i], x[i+d/2]).
    """
    halves = weight.view(-1, 2, head_dim // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def read_tokenizer(file: GGUFFile) -> Tokenizer:
    """The tokenizer in a GGUF file, equal to llama.cpp's token by token (Qwen's: for text in NFC).

    Raises:
        UserError: it is not a byte-level BPE (SentencePiece, WordPiece …), or its pre-tokenizer is not known.
    """
    model, pre = (file.value(f"tokenizer.ggml.{key}", str) for key in ("model", "pre"))
    if model != "gpt2":
        raise UserError(
            f"{file.path} has a tokenizer of the kind {model!r}; only byte-level BPEs (kind 'gpt2') can be read. "
            "Import the model's folder from Hugging Face, which holds a tokenizer.json."
        )
    name = pre or "default"
    if name not in PRE_TOKENIZERS:
        raise UserError(
            f"{file.path} splits text by the pre-tokenizer {name!r}; known are {', '.join(sorted(PRE_TOKENIZERS))}. "
            "Import the model's folder from Hugging Face, which holds a tokenizer.json."
        )
    tokens, merges = (file.value(f"tokenizer.ggml.{key}", list) for key in ("tokens", "merges"))
    kinds = file.value("tokenizer.ggml.token_type", np.ndarray)
    if tokens is None or merges is None or kinds is None or len(kinds) != len(tokens):
        raise UserError(f"{file.path} has no complete tokenizer: tokens, merges or token types are missing.")
    if len(set(tokens)) < len(tokens):
        raise UserError(f"{file.path}: two tokens of its tokenizer are the same text.")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        pairs = [tuple(merge.split(" ", 1)) for merge in merges]
        tokenizer = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=name == "llama-bpe"))
    except Exception as error:  # tokenizers raises a bare Exception
        raise UserError(f"{file.path}: its tokenizer is damaged ({error}).") from None
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()  # llama.cpp leaves it out; Qwen's own tokenizer has it
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PRE_TOKENIZERS[name]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for kind, add in ((CONTROL, tokenizer.add_special_tokens), (USER_DEFINED, tokenizer.add_tokens)):
        named = [tokens[index] for index in np.flatnonzero(kinds == kind)]
        add([AddedToken(token, special=kind == CONTROL, normalized=False) for token in named])
    tokenizer.encode_special_tokens = True
    return tokenizer


def tokenizer_settings(file: GGUFFile) -> dict[str, Any]:
    """What `tokenizer_config.json` says beyond the tokenizer itself: special tokens and the chat template."""
    tokens = file.value("tokenizer.ggml.tokens", list, [])
    settings = {}
    for role, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = file.value(f"tokenizer.ggml.{theirs}_token_id", int, -1)
        if 0 <= index < len(tokens):
            settings[f"{role}_token"] = tokens[index]
    if template := file.value("tokenizer.chat_template", str):
        settings["chat_template"] = template
    return settings


def package(doing: str) -> Any:
    """The package `gguf`; `UserError` where it is missing."""
    try:
        import gguf
    except ImportError:
        raise UserError(f"{doing} a GGUF file needs the package gguf: pip install 'wikigpt[hub]'.") from None
    return gguf
