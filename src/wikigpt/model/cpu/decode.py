"""Decoding on CPUs: `decode.cpp` for a model's layers and head."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from wikigpt.model.cpu.build import available, call
from wikigpt.model.rounding import RoundedLinear

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class _Matrix(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("scale", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("norm", "q_norm", "k_norm", "mlp_norm")),
        *((name, _Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
    ]


class _Shape(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int64) for n in ("n_layers", "width", "n_heads", "n_kv_heads", "head_dim", "hidden")),
        ("vocabulary", ctypes.c_int64),
        ("kind", ctypes.c_int64),
        ("eps", ctypes.c_float),
    ]


class _State(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_rows", "length", "capacity")),
        *((name, ctypes.c_void_p) for name in ("padding", "keys", "values", "cosines", "sines")),
    ]


class Decoding:
    """A Llama's or Qwen3's layers and head, ready for one more token of some texts at a time.

    It reads the model's own weights, which must stay where they are; where they are rounded (`model.rounding`), as they
    are kept. Sums, keys and values are fp32.
    """

    @classmethod
    def of(cls, model: Any, longest: int) -> "Decoding | None":
        """Of a `Transformer`, for texts of at most so many tokens.

        None where the operators are missing, or know nothing of a part of it.
        """
        blocks = [*model.model.layers]
        if model.lm_head.weight.device.type != "cpu" or model.model.stream_dtype != torch.float32 or not available():
            return None
        if not all(block.can_fuse(nn.Linear, RoundedLinear) and block.self_attn.prefix is None for block in blocks):
            return None
        linears = [model.lm_head, *(linear for block in blocks for linear in block.linears)]
        if model.lm_head.bias is not None or len({linear.weight.dtype for linear in linears}) > 1:
            return None
        return cls(model, longest) if model.lm_head.weight.dtype in KINDS else None

    def __init__(self, model: Any, longest: int) -> None:
        config, decoder = model.config, model.model
        blocks = [*decoder.layers]
        self._kept: list[Tensor] = []
        self._layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        self._norm, self._head = self._pointer(decoder.norm.weight), self._matrix(model.lm_head)
        self._embed = decoder.embed_tokens
        kind = KINDS[model.lm_head.weight.dtype]
        attention = blocks[0].self_attn
        self._shape = _Shape(
            len(blocks),
            config.d_model,
            attention.n_heads,
            attention.n_kv_heads,
            attention.head_dim,
            config.mlp_dim,
            config.vocab_size,
            kind,
            config.epsilon,
        )
        self._angles = decoder.angles(torch.arange(longest))

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        """Logits fp32 `[texts, vocabulary]` after one more token of each text; the cache takes it up.

        Args:
            ids: int64 `[texts]`.
            cache: a `Cache` in fp32, with room for a token.
        """
        states = self._embed(ids).float().contiguous()
        logits = torch.empty(len(ids), self._shape.vocabulary)
        if not (cache.keys.is_contiguous() and cache.keys.dtype == torch.float32):
            raise ValueError("decoding needs a contiguous cache in fp32.")
        state = _State(
            len(ids),
            cache.length,
            cache.keys.shape[3],
            *(t.data_ptr() for t in (cache.padding, cache.keys, cache.values, *self._angles)),
        )
        norm, x, out = map(ctypes.c_void_p, (self._norm, states.data_ptr(), logits.data_ptr()))
        head, shape = ctypes.byref(self._head), ctypes.byref(self._shape)
        call("decode", torch.float32, shape, self._layers, norm, head, ctypes.byref(state), x, out)
        cache.advance(1)
        return logits

    def _layer(self, block: Any) -> _Layer:
        attention = block.self_attn
        gains = [getattr(norm, "weight", None) for norm in (block.input_layernorm, attention.q_norm, attention.k_norm)]
        return _Layer(
            *map(self._pointer, gains),
            self._pointer(block.post_attention_layernorm.weight),
            *map(self._matrix, block.linears),
        )

    def _matrix(self, linear: Any) -> _Matrix:
        return _Matrix(self._pointer(linear.weight), self._pointer(getattr(linear, "scale", None)))

    def _pointer(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._kept.append(tensor)
        return tensor.data_ptr()
