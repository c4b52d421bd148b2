"""Adapters: equal to PEFT's in losses, gradients and files; what is frozen stays; merged is the same model."""

import json
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import wikigpt
from wikigpt.adapt.files import Adapter, attach, check_base, extract, is_adapter, load_adapter, save_adapter
from wikigpt.adapt.methods import adapt, n_virtual_tokens, plain
from wikigpt.adapt.settings import AdapterSettings
from wikigpt.chat import Engine
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.tokens import build_tokenizer, load_tokenizer, open_shards
from wikigpt.train import Chat, TrainConfig, read_metrics
from wikigpt.train.batches import IGNORE
from wikigpt.train.objectives import summed_cross_entropy
from wikigpt.train.tuning import DistillConfig, PreferConfig
from wikigpt.tune import distill, finetune, prefer

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
    config = ModelConfig(family=family, n_layers=2, d_model=32, n_heads=2, context_length=128, vocab_size=300, **kv)
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


@pytest.fixture(scope="module")
def base(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "base"
    save_model(make_model("qwen3"), folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "conversations"
    folder.mkdir()
    for name, numbers in (("train", range(60)), ("validation", range(60, 70))):
        entries = [
            {
                "messages": [
                    {"role": "user", "content": f"What is {n}?"},
                    {"role": "assistant", "content": f"**{n + 1}**"},
                    {"role": "user", "content": "And France?"},
                    {"role": "assistant", "content": "Paris."},
                ],
                "lang": "en",
            }
            for n in numbers
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")
    return folder


def config(**changes: Any) -> TrainConfig:
    fixed = {"steps": 8, "batch_size": 4, "precision": "fp32", "compile": "off", "warmup_steps": 2, "samples": []}
    return TrainConfig(**{**fixed, "evaluate_every": 1000, **changes})


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_metrics(folder / "metrics.jsonl") if "loss" in e]


@pytest.mark.parametrize("method", [*METHODS, "freeze"])
def test_finetuning_learns_and_leaves_the_base_alone(
    method: str, base: Path, conversations: Path, tmp_path: Path
) -> None:
    weights = (base / "model.safetensors").read_bytes()
    chosen = AdapterSettings(method=method, rank=2, virtual_tokens=3, train="last:1")
    facts = finetune(
        base, conversations, tmp_path / "work", tmp_path / "out", settings=config(steps=30), adapter=chosen
    )
    assert (base / "model.safetensors").read_bytes() == weights
    taken = losses(tmp_path / "work")
    assert taken[-1] < taken[0] - 0.1
    assert facts["trained_parameters"] < 0.6 * facts["parameters"]
    engine = Engine.from_folder(tmp_path / "out")
    question = [{"role": "user", "content": "What is 3?"}]
    adapted, before = (e.generate([question], max_new_tokens=8)[0] for e in (engine, Engine.from_folder(base)))
    assert adapted.token_logprobs != before.token_logprobs
    if chosen.is_adapter:
        engine.use(None)
        assert engine.generate([question], max_new_tokens=8)[0] == before
        engine.use("out")
        assert engine.generate([question], max_new_tokens=8)[0] == adapted
    else:  # the first of two layers was frozen
        old, new = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
        changed = {name for name, tensor in new.items() if not torch.equal(tensor, old[name])}
        assert changed and all(".layers.1." in name for name in changed)


@pytest.mark.parametrize("method", ["lora", "prefix", "freeze"])
def test_a_stopped_run_goes_on_bit_for_bit(method: str, base: Path, conversations: Path, tmp_path: Path) -> None:
    def stop_at_4(done: int, total: int, message: str) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    adapter = AdapterSettings(method=method, rank=2, virtual_tokens=3, train="last:1")
    arguments = {"settings": config(), "adapter": adapter}
    finetune(base, conversations, tmp_path / "straight", tmp_path / "a", **arguments)
    with pytest.raises(KeyboardInterrupt):
        finetune(base, conversations, tmp_path / "stopped", tmp_path / "b", **arguments, progress=stop_at_4)
    assert len(losses(tmp_path / "stopped")) < 8
    finetune(base, conversations, tmp_path / "stopped", tmp_path / "b", **arguments)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    file = "model.safetensors" if method == "freeze" else "adapter_model.safetensors"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_nothing_that_a_user_says_is_trained_on(base: Path, conversations: Path, tmp_path: Path) -> None:
    adapter = AdapterSettings(method="soft-prompt", virtual_tokens=3)
    finetune(base, conversations, tmp_path / "work", tmp_path / "out", settings=config(steps=1), adapter=adapter)
    shards, tokenizer = open_shards(tmp_path / "work" / "tokens"), load_tokenizer(base)
    for batch in Chat().packer(shards["train"], 128, seed=0).first_epoch(4, 10**6):
        hidden = torch.zeros(*batch.targets.shape, 8, requires_grad=True)
        head = torch.randn(303, 8)
        summed_cross_entropy(hidden, head, batch.targets).backward()
        learned = (hidden.grad != 0).any(-1)  # positions whose prediction the loss depends on
        said = tokenizer.decode(batch.targets[learned].tolist(), skip_special_tokens=False)
        for answer in said.removesuffix("<|im_end|>").split("<|im_end|>"):
            assert re.fullmatch(r"\*\*\d+\*\*|Paris\.", answer), answer
        assert not learned[batch.targets == IGNORE].any()


def test_merged_is_a_model_of_its_own_that_answers_as_the_adapter(
    base: Path, conversations: Path, tmp_path: Path
) -> None:
    adapter = AdapterSettings(method="lora", rank=2)
    for name, merge in (("beside", False), ("merged", True)):
        finetune(
            base,
            conversations,
            tmp_path / name,
            tmp_path / f"{name}.out",
            settings=config(),
            adapter=adapter,
            merge=merge,
        )
    assert not is_adapter(tmp_path / "merged.out")
    question = [{"role": "user", "content": "What is 3?"}]
    one, other = (
        Engine.from_folder(tmp_path / f"{name}.out").generate([question], max_new_tokens=8)[0]
        for name in ("beside", "merged")
    )
    assert one.text == other.text
    assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "lora", "targets": ["c_attn"]}, "no matrices 'c_attn'; it has q_proj"),
        ({"method": "freeze", "train": "last:3"}, "2 layers count from 0"),
        ({"method": "freeze", "train": "last:x"}, "is not understood"),
        ({"method": "freeze", "train": "tail"}, "'tail' is no part of a model"),
        ({"method": "freeze", "train": ","}, "names nothing to train"),
        ({"method": "soft-prompt", "virtual_tokens": 90}, "set adapter.virtual_tokens to 64 at most"),
    ],
)
def test_impossible_settings_are_named(
    changes: dict[str, Any], words: str, base: Path, conversations: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        finetune(
            base, conversations, tmp_path / "w", tmp_path / "o", settings=config(), adapter=AdapterSettings(**changes)
        )
    assert not (tmp_path / "o").exists()


def test_adapters_that_do_not_fit_are_refused(base: Path, conversations: Path, tokenizer: Path, tmp_path: Path) -> None:
    adapter = AdapterSettings(method="lora", rank=2)
    finetune(base, conversations, tmp_path / "work", tmp_path / "fine", settings=config(steps=1), adapter=adapter)
    save_model(make_model("llama"), tmp_path / "other", tokenizer=tokenizer)
    with pytest.raises(UserError, match="was trained on another base"):
        Engine.from_folder(tmp_path / "other", [tmp_path / "fine"])
    with pytest.raises(UserError, match="is no adapter"):
        load_adapter(base)
    (tmp_path / "fine" / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(UserError, match="is damaged"):
        load_adapter(tmp_path / "fine")
    wide = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 99)}
    wide |= {name.replace("lora_A", "lora_B"): torch.zeros(32, 2) for name in wide}
    with pytest.raises(UserError, match=r"does not fit the model at .*q_proj: shape \[2, 99\]"):
        attach(make_model("qwen3"), Adapter({"peft_type": "LORA", "r": 2, "lora_alpha": 2}, wide), tmp_path)
    engine = Engine(make_model("qwen3"), load_tokenizer(tokenizer))
    before = engine.generate(["What"], max_new_tokens=4)
    fits = {name.replace("q_proj", "v_proj"): torch.ones(2, 32) for name in wide if "lora_A" in name}
    fits |= {name.replace("lora_A", "lora_B"): torch.ones(16, 2) for name in fits}
    engine._switch.adapters["half"] = Adapter({"peft_type": "LORA", "r": 2, "lora_alpha": 2}, {**fits, **wide})
    with pytest.raises(UserError, match="does not fit"):
        engine.use("half")
    assert engine.adapter is None and engine.generate(["What"], max_new_tokens=4) == before
    with pytest.raises(UserError, match="cannot be merged"):
        finetune(
            base, conversations, tmp_path / "w", tmp_path / "o", settings=config(), merge=True,
            adapter=AdapterSettings(method="prefix"),
        )  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "soft-prompt", "freeze"])
def test_preferences_train_an_adapter_against_the_base_itself(method: str, base: Path, tmp_path: Path) -> None:
    pairs = [  # as LLaMA-Factory writes them
        {"instruction": f"What is {n}?", "input": "", "chosen": f"**{n + 1}**", "rejected": "Paris."} for n in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    adapter = AdapterSettings(method=method, rank=2, virtual_tokens=3, train="last:1", learning_rate=0.02)
    settings = PreferConfig(**config(steps=20).model_dump() | {"learning_rate": 0.02}, beta=1.0, chosen_weight=0.0)
    prefer(base, tmp_path / "pairs.jsonl", tmp_path / "work", tmp_path / "out", settings=settings, adapter=adapter)
    taken = losses(tmp_path / "work")
    assert taken[0] == pytest.approx(math.log(2), abs=1e-5)  # nothing is likelier than it was for the reference
    assert taken[-1] < taken[0] - 0.05
    assert is_adapter(tmp_path / "out") == adapter.is_adapter


def test_a_student_learns_from_a_teacher_by_an_adapter(
    base: Path, conversations: Path, tokenizer: Path, tmp_path: Path
) -> None:
    save_model(make_model("llama"), tmp_path / "teacher", tokenizer=tokenizer)
    settings = DistillConfig(**config().model_dump())
    arguments = (str(tmp_path / "teacher"), base, conversations, tmp_path / "work", tmp_path / "out")
    facts = distill(*arguments, settings=settings, adapter=AdapterSettings(method="lora", rank=2))
    assert is_adapter(tmp_path / "out") and facts["trained_share"] < 0.2
    assert losses(tmp_path / "work")[-1] < losses(tmp_path / "work")[0]
    with pytest.raises(UserError, match="puts tokens before a text that a teacher does not know"):
        distill(*arguments, settings=settings, adapter=AdapterSettings(method="prefix"))


def test_adapters_are_switched_in_the_terminal(base: Path, conversations: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 2)):
        adapter = AdapterSettings(method="lora", rank=2, learning_rate=0.1)
        finetune(
            base,
            conversations,
            tmp_path / f"{name}.work",
            tmp_path / name,
            settings=config(),
            adapter=adapter,
            seed=seed,
        )
    asked = "/adapter\nWhat is 3?\n/adapter second\nWhat is 3?\n/adapter none\n/adapter third\n"
    done = wikigpt("chat", base, "--adapter", tmp_path / "first", "--adapter", tmp_path / "second", input=asked)
    assert done.returncode == 0, done.stderr
    assert "  none\n* first\n  second" in done.stdout
    assert "  none\n  first\n* second" in done.stdout
    assert "* none\n  first\n  second" in done.stdout
    assert "there is no adapter 'third'; there are: first, second." in done.stdout
