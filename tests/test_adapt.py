"""Adapters: equal to PEFT's in losses, gradients and files; what is frozen stays; merged is the same model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wikigpt.adapt.files import attach, check_base, extract, load_adapter, save_adapter
from wikigpt.adapt.methods import adapt, n_virtual_tokens, plain
from wikigpt.adapt.settings import AdapterSettings
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.tokens import build_tokenizer

FAMILIES = ["qwen3", "llama", "gpt2"]
METHODS = ["lora", "dora", "ia3", "soft-prompt", "prefix"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "tokenizer"
    build_tokenizer(
        ["What is the capital of France? Paris. 首都是哪里？巴黎。"] * 20,
        folder,
        vocab_size=300,
        split_cjk=True,
        max_token_length=8,
    )
    return folder


def make_model(family: str) -> Transformer:
    torch.manual_seed(1)
    kv = {} if family == "gpt2" else {"n_kv_heads": 1}
    config = ModelConfig(family=family, n_layers=2, d_model=32, n_heads=2, context_length=64, vocab_size=300, **kv)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():  # output projections begin at zero, which would hide much
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def shaken(model: Transformer) -> None:
    """Change what is trained, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def save(model: Transformer, method: str, folder: Path, tokenizer: Path) -> None:
    """Write the base's adapter to `folder/adapter`."""
    adapter, base = extract(model, settings(method)), folder / "base"
    save_adapter(adapter, folder / "adapter", base=base, tokenizer=tokenizer, facts={"method": method})


def settings(method: str) -> AdapterSettings:
    return AdapterSettings(method=method, rank=3, alpha=5, virtual_tokens=4)


def logits_of(model: Transformer, ids: Tensor) -> Tensor:
    """Logits of the real tokens, behind the virtual ones where there are some."""
    n = n_virtual_tokens(model)
    virtual = torch.arange(n).expand(len(ids), n) + model.config.vocab_size
    return model(torch.cat([virtual, ids], dim=1))[:, n:]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_our_adapter_and_agrees_in_logits_and_gradients(
    method: str, family: str, tokenizer: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = make_model(family)
    save_model(model, tmp_path / "base", tokenizer=tokenizer)
    adapt(model, settings(method))
    shaken(model)
    save_adapter(
        extract(model, settings(method)), tmp_path / "adapter", base=tmp_path / "base", tokenizer=tokenizer, facts={}
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    is_prompt = method in ("soft-prompt", "prefix")  # which peft does not let anyone train on
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=not is_prompt).eval()
    for parameter in theirs.prompt_encoder.parameters() if is_prompt else ():
        parameter.requires_grad_(True)
    ids = torch.randint(0, 300, (2, 9))
    expected = theirs(input_ids=ids).logits[:, -9:]
    found = logits_of(model.eval(), ids)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    with torch.no_grad():  # gradients under PEFT's names: rotating and joining, as extract does, are linear
        for parameter in model.parameters():
            parameter.copy_(parameter.grad if parameter.requires_grad else parameter)
    gradients = extract(model, settings(method)).tensors
    peers = {name.replace(".default", ""): p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert len(peers) == len(gradients)
    for name, gradient in gradients.items():
        peer = next(iter(peers.values())) if is_prompt else peers.get(name, peers.get(f"{name}.weight"))
        if family == "gpt2" and name.endswith("lora_B.weight"):  # theirs is not bound to be block-diagonal
            peer = peer * (gradient != 0)
        torch.testing.assert_close(gradient, peer, atol=1e-5 * float(peer.abs().max()), rtol=1e-5)


def test_an_adapter_that_peft_made_loads_here(tokenizer: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    ids = torch.randint(0, 300, (2, 9))
    for family, targets in (("qwen3", ["q_proj", "down_proj"]), ("gpt2", ["c_attn"])):
        model = make_model(family)
        base = tmp_path / f"base-{family}"
        save_model(model, base, tokenizer=tokenizer)
        config = peft.LoraConfig(
            r=4, lora_alpha=6, target_modules=targets, use_rslora=True, init_lora_weights=False, task_type="CAUSAL_LM"
        )
        theirs = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config).eval()
        theirs.save_pretrained(tmp_path / f"adapter-{family}")
        adapter = load_adapter(tmp_path / f"adapter-{family}")
        attach(model, adapter, tmp_path)
        torch.testing.assert_close(model.eval()(ids), theirs(input_ids=ids).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_saved_loaded_and_removed(method: str, family: str, tokenizer: Path, tmp_path: Path) -> None:
    model, ids = make_model(family).eval(), torch.randint(0, 300, (2, 9))
    save_model(model, tmp_path / "base", tokenizer=tokenizer)
    before, state = model(ids), {name: t.clone() for name, t in model.state_dict().items()}
    adapt(model, settings(method))
    shaken(model)
    adapted = logits_of(model, ids)
    assert not torch.allclose(adapted, before, atol=1e-3)
    save(model, method, tmp_path, tokenizer)
    plain(model, keep=False)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    loaded = load_adapter(tmp_path / "adapter")
    check_base(tmp_path / "adapter", loaded, tmp_path / "base")
    attach(model, loaded, tmp_path / "adapter")
    torch.testing.assert_close(logits_of(model, ids), adapted, atol=1e-5, rtol=1e-5)
    if method in ("lora", "dora", "ia3"):
        plain(model, keep=True)
        torch.testing.assert_close(model(ids), adapted, atol=1e-5, rtol=1e-5)
