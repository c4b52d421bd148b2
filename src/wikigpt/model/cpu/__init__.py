"""Operators for training and decoding on CPUs, written in C++ for what torch does slowly there."""

from wikigpt.model.cpu.attention import attention
from wikigpt.model.cpu.build import available, product_dtype, unavailable_because
from wikigpt.model.cpu.cross_entropy import cross_entropy
from wikigpt.model.cpu.decode import Decoding
from wikigpt.model.cpu.mlp import norm_swiglu
from wikigpt.model.cpu.muon import muon_step
from wikigpt.model.cpu.projections import norm_qkv, project_add

__all__ = [
    "Decoding",
    "attention",
    "available",
    "cross_entropy",
    "muon_step",
    "norm_qkv",
    "norm_swiglu",
    "product_dtype",
    "project_add",
    "unavailable_because",
]
