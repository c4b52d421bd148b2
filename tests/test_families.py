"""Every family against transformers: logits, gradients, folders both ways, generation, what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from wikigpt.chat.engine import Engine
from wikigpt.errors import UserError
from wikigpt.model import FAMILIES, SHAPES, ModelConfig, Transformer, load_model, save_model
from wikigpt.model.config import RopeScaling
from wikigpt.model.hub import from_hub_config, to_hub_config, to_hub_weights
from wikigpt.tokens import load_tokenizer, save_tokenizer, train_tokenizer

SMALL = {"vocab_size": 300, "n_layers": 2, "d_model": 48, "n_heads": 4, "d_ff": 80, "context_length": 160}
STRETCHED = RopeScaling(factor=8, low_freq_factor=1, high_freq_factor=4, original_context_length=64)
CONFIGS = {
    "qwen3": ModelConfig(family="qwen3", **SMALL),
    "qwen3 grouped, wide heads, untied": ModelConfig(
        family="qwen3", **SMALL, n_kv_heads=2, head_dim=20, tie_embeddings=False, attention_bias=True
    ),
    "llama": ModelConfig(family="llama", **SMALL, tie_embeddings=False),
    "llama grouped, biases, stretched, tied": ModelConfig(
        family="llama", **SMALL, n_kv_heads=1, attention_bias=True, mlp_bias=True, rope_scaling=STRETCHED
    ),
    "gpt2": ModelConfig(family="gpt2", **SMALL),
    "gpt2 untied": ModelConfig(family="gpt2", **SMALL, tie_embeddings=False),
    "bert": ModelConfig(family="bert", **SMALL),
    "bert untied": ModelConfig(family="bert", **SMALL, tie_embeddings=False),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def random_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model whose every weight is random: zero-initialised projections, biases and gains, too."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def theirs(folder):
    """The folder as transformers loads it, every weight accounted for."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    auto = AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM
    model, report = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    unused = {"cls.predictions.bias"} if not model.config.tie_word_embeddings else set()
    assert set(report["missing_keys"]) <= unused and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert type(model).__name__ == FAMILIES[kind].architecture
    return model.eval()


def token_ids(*shape: int) -> torch.Tensor:
    return torch.randint(5, 300, shape, generator=torch.Generator().manual_seed(1))  # 4 is padding


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(["Paris is a city. 巴黎是城市。"] * 9, vocab_size=300), folder)
    return folder


@each_config
def test_logits_and_every_gradient_equal_those_of_transformers(config, tokenizer_folder, tmp_path):
    ours = random_model(config)
    save_model(ours, tmp_path / "model", tokenizer=tokenizer_folder)
    reference = theirs(tmp_path / "model")
    ids, labels = token_ids(3, 150), torch.randint(0, 300, (3, 150))
    expected, got = reference(ids).logits, ours(ids)
    assert expected.std() > 0.1  # not two constant functions that agree
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for logits in (expected, got):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    gradients = {name: p.grad for name, p in ours.named_parameters(remove_duplicate=False) if p.grad is not None}
    assert gradients.keys() == ours.state_dict().keys()
    wanted = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    got_gradients = to_hub_weights(ours, gradients)
    assert wanted.keys() == got_gradients.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got_gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@each_config
def test_a_folder_written_by_transformers_loads_with_equal_logits(config, tokenizer_folder, tmp_path):
    save_model(random_model(config), tmp_path / "ours", tokenizer=tokenizer_folder)
    reference = theirs(tmp_path / "ours")
    ids = token_ids(2, 60)
    with torch.no_grad():
        expected = reference(ids).logits
        for name, options in {"whole": {}, "sharded": {"max_shard_size": "40KB"}}.items():
            reference.save_pretrained(tmp_path / name, **options)
            assert (tmp_path / name / "model.safetensors").exists() == (name == "whole")
            loaded = load_model(tmp_path / name)
            assert loaded.config == config
            torch.testing.assert_close(loaded(ids), expected, atol=1e-5, rtol=1e-5)


@each_config
def test_our_folder_restores_the_model_exactly_and_its_size_is_counted_right(config, tokenizer_folder, tmp_path):
    model = random_model(config)
    save_model(model, tmp_path / "model", tokenizer=tokenizer_folder)
    again = load_model(tmp_path / "model")
    assert again.config == config
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert config.n_parameters == sum(p.numel() for p in again.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_tied_copies_load(dtype, tokenizer_folder, tmp_path):
    save_model(random_model(CONFIGS["llama grouped, biases, stretched, tied"]), tmp_path, tokenizer=tokenizer_folder)
    weights = {name: t.to(dtype) for name, t in load_file(tmp_path / "model.safetensors").items()}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors")
    model = load_model(tmp_path)
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"].float())
    weights["lm_head.weight"] += 1
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the embedding"):
        load_model(tmp_path)


def test_names_of_older_gpt2_and_bert_files_load(tokenizer_folder, tmp_path):
    for family, renamed, unused in (
        ("gpt2", lambda n: n.removeprefix("transformer."), "h.0.attn.bias"),
        (
            "bert",
            lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
            "bert.pooler.dense.weight",
        ),
    ):
        folder, model = tmp_path / family, random_model(CONFIGS[family])
        save_model(model, folder, tokenizer=tokenizer_folder)
        weights = {renamed(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file({**weights, unused: torch.zeros(2)}, folder / "model.safetensors")
        assert torch.equal(load_model(folder)(token_ids(1, 9)), model(token_ids(1, 9)))


@pytest.mark.parametrize("name", ["gpt2", "llama grouped, biases, stretched, tied"])
def test_generation_with_the_cache_equals_transformers_and_the_full_forward(name, tokenizer_folder, tmp_path):
    model = random_model(CONFIGS[name])
    save_model(model, tmp_path, tokenizer=tokenizer_folder)
    reference, engine = theirs(tmp_path), Engine.from_folder(tmp_path)
    prompts = ["Paris", "巴黎是城市。巴黎", "is a city is a city is"]
    answers = engine.generate(prompts, max_new_tokens=30)  # one batch, padded on the left
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([engine.encode(prompt)])
        expected = reference.generate(ids, max_new_tokens=30, do_sample=False)
        new = expected[0, ids.shape[1] :]
        assert len(answer.token_logprobs) == len(new)
        assert load_tokenizer(tmp_path).decode(new.tolist()).startswith(answer.text)
        with torch.no_grad():
            logprobs = model(expected[:, :-1])[0, ids.shape[1] - 1 :].log_softmax(-1)
        torch.testing.assert_close(torch.tensor(answer.token_logprobs), logprobs.gather(1, new[:, None])[:, 0])


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_packed_documents_do_not_see_each_other(family):
    model = random_model(CONFIGS[family])
    first, second, other = token_ids(1, 40), token_ids(1, 60), token_ids(1, 60) % 290 + 5
    documents = torch.tensor([[0] * 40 + [1] * 60])
    packed = model(torch.cat([first, second], 1), documents)[:, :40]
    torch.testing.assert_close(packed, model(first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed, model(torch.cat([first, other], 1), documents)[:, :40])
    if family == "bert":  # and without the border, a later token is seen by an earlier one
        assert (model(torch.cat([first, second], 1))[:, :40] - packed).abs().max() > 1e-2


REFUSED = {
    "sliding window": ("qwen3", {"use_sliding_window": True}, "use_sliding_window is True"),
    "layer types": ("qwen3", {"layer_types": ["sliding_attention"]}, "sliding_attention"),
    "rope": ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "rope_type 'yarn'"),
    "old rope": ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type 'linear'"),
    "half a rope": ("llama", {"rope_parameters": {"rope_type": "llama3"}}, r"rope_scaling\.factor"),
    "activation": ("gpt2", {"activation_function": "relu"}, "activation_function is 'relu'.*'gelu_new'"),
    "scaling": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    "relative positions": ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
    "decoder": ("bert", {"is_decoder": True}, "is_decoder"),
    "quantised": ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    "code": ("llama", {"auto_map": {"AutoModel": "evil.Model"}}, "run code"),
    "classifier": ("bert", {"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
    "family": ("llama", {"model_type": "mamba"}, "'mamba' model; WikiGPT loads these families: bert, gpt2, llama"),
    "shape": ("gpt2", {"n_head": 7}, "not a multiple of n_heads=7"),
    "no number": ("gpt2", {"n_layer": "many"}, "n_layers: .*integer"),
}  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_would_be_computed_wrongly_are_refused_by_name(family, changes, message, tmp_path):
    config = to_hub_config(CONFIGS[family], eos_token_id=0, pad_token_id=4)
    assert from_hub_config(config, tmp_path) == CONFIGS[family]
    with pytest.raises(UserError, match=message):
        from_hub_config({**config, **changes}, tmp_path)


LLAMA3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
PUBLISHED = {
    "gpt2": ({"model_type": "gpt2", "n_ctx": 1024}, 124_439_808),
    "bert-base-uncased": ({"model_type": "bert", "position_embedding_type": "absolute"}, 109_514_298),
    "SmolLM2-135M": (
        {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
         "num_key_value_heads": 3, "num_hidden_layers": 30, "rope_scaling": None, "rope_theta": 100000,
         "tie_word_embeddings": True, "vocab_size": 49152, "rope_interleaved": False}, 134_515_008,
    ),
    "Llama-3.2-1B": (
        {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 64,
         "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 16, "rope_theta": 500000.0,
         "rope_scaling": {**LLAMA3, "rope_type": "llama3"}, "tie_word_embeddings": True, "vocab_size": 128256},
        1_235_814_400,
    ),
    "Qwen3-0.6B": (
        {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
         "num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 28, "sliding_window": None,
         "use_sliding_window": False, "max_window_layers": 28, "tie_word_embeddings": True, "vocab_size": 151936},
        596_049_920,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("config", "n_parameters"), PUBLISHED.values(), ids=PUBLISHED)
def test_configurations_as_published_describe_models_of_the_published_size(config, n_parameters, tmp_path):
    assert from_hub_config(config, tmp_path).n_parameters == n_parameters


def test_what_transformers_leaves_out_of_config_json_is_read_as_it_means_it(tmp_path):
    import transformers

    for family in FAMILIES:
        defaults = getattr(transformers, f"{family.replace('gpt2', 'GPT2').replace('qwen', 'Qwen')}Config", None)
        defaults = defaults or getattr(transformers, f"{family.capitalize()}Config")
        full = from_hub_config(defaults().to_dict() | {"architectures": None}, tmp_path)
        assert from_hub_config({"model_type": family}, tmp_path) == full


def test_weights_that_do_not_fit_are_named(tokenizer_folder, tmp_path):
    model = random_model(CONFIGS["gpt2"])
    save_model(model, tmp_path, tokenizer=tokenizer_folder)
    path = tmp_path / "model.safetensors"
    good, name = load_file(path), "transformer.h.1.attn.c_attn.weight"
    bad = {
        f"{name} is missing": {k: t for k, t in good.items() if k != name},
        rf"{name} has shape \[144, 48\], not \[48, 144\]": {**good, name: good[name].t().contiguous()},
        f"{name} is quantised": {**good, name: good[name].to(torch.int8)},
        "transformer.h.2.ln_1.weight is unknown": {**good, "transformer.h.2.ln_1.weight": torch.ones(48)},
        "shape .*, and 21 more problems": {
            k: torch.zeros(8000) if "h.1" in k or "h.0" in k else t for k, t in good.items()
        },
        "config.json describes .* weights, but there are only": {"lm_head.weight": torch.ones(1)},
    }
    for message, weights in bad.items():
        save_file(weights, path)
        with pytest.raises(UserError, match=message):
            load_model(tmp_path)
    path.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(UserError, match=r"only as a pickle \(pytorch_model.bin\)"):
        load_model(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for weight_map, message in (({"a": "../x.safetensors"}, "no safetensors file of this folder"), ([], "weight_map")):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(UserError, match=message):
            load_model(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(UserError, match=r"model-1\.safetensors is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_weights_are_a_quarter_of_the_file_and_off_by_half_a_step_at_most(family, tokenizer_folder, tmp_path):
    model = random_model(CONFIGS[family])
    for name, folder in (("full", {}), ("int8", {"int8": True})):
        save_model(model, tmp_path / name, tokenizer=tokenizer_folder, **folder)
    full, small = (tmp_path / name / "model.safetensors" for name in ("full", "int8"))
    assert small.stat().st_size < 0.35 * full.stat().st_size  # of tiny matrices; scales and vectors stay fp32
    tensors, exact = load_file(small), load_file(full)
    for name, weight in exact.items():
        if weight.dim() > 1:
            error = (tensors[name] * tensors[f"{name}.scale"][:, None] - weight).abs()
            assert (error <= weight.abs().amax(1, keepdim=True) / 127 * 0.51).all()
        else:
            assert torch.equal(tensors[name], weight)
    ids = torch.arange(24)[None] % model.config.vocab_size
    with torch.no_grad():
        wanted, given = model.eval()(ids), load_model(tmp_path / "int8")(ids)
    assert 0 < (given - wanted).norm() < 0.03 * wanted.norm()
    config = json.loads((tmp_path / "int8" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "wikigpt_int8"

    scale = next(name for name in tensors if name.endswith(".scale"))
    save_file({**tensors, scale: tensors[scale][:-1].contiguous()}, small)
    with pytest.raises(UserError, match=f"the scales of {scale.removesuffix('.scale')} do not fit"):
        load_model(tmp_path / "int8")


def test_named_shapes_and_what_a_family_cannot_be():
    mini = ModelConfig(shape="gpt2-mini")
    assert (mini.family, mini.n_layers, mini.d_model, mini.n_heads, mini.d_ff, mini.context_length) == (
        "gpt2", 12, 256, 4, 1024, 512,
    )  # fmt: skip
    assert ModelConfig(shape="gpt2-mini", n_layers=3) == ModelConfig(**{**SHAPES["gpt2-mini"], "n_layers": 3})
    assert ModelConfig(shape="gpt2-small", vocab_size=50257).n_parameters == 124_439_808  # as published
    for wrong, message in (
        ({"shape": "gpt5"}, "no shape 'gpt5'; the shapes are qwen3-tiny"),
        ({"family": "gpt2", "n_kv_heads": 2}, "n_kv_heads and head_dim cannot be chosen"),
        ({"family": "bert", "rope_scaling": STRETCHED}, "no rope_scaling"),
        ({"family": "qwen3", "mlp_bias": True}, "qwen3 family has none"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelConfig(**wrong)
