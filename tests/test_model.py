"""The transformer against transformers: same logits, same greedy tokens, in both directions."""

import pytest
import torch

from wikigpt.errors import UserError
from wikigpt.model import Cache, ModelConfig, Transformer, load_model, save_model
from wikigpt.model.transformer import flex_attention
from wikigpt.tokens import save_tokenizer, train_tokenizer

SHAPES = {
    "qwen3": {"n_layers": 3, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "head_dim": 24},
    "llama": {"n_layers": 2, "d_model": 48, "n_heads": 4, "tie_embeddings": False},
}


def make_model(family="qwen3", vocab_size=300, seed=0, **changes) -> Transformer:
    """A model whose every weight is random, zero-initialised projections included."""
    torch.manual_seed(seed)
    config = ModelConfig(family=family, vocab_size=vocab_size, **{**SHAPES[family], **changes})
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(["Paris is a city. 巴黎是城市。"] * 9, vocab_size=300), folder)
    return folder


@pytest.mark.parametrize("family", SHAPES)
def test_saved_folder_gives_equal_logits_and_tokens_in_transformers(family, tokenizer_folder, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_model(family)
    save_model(model, tmp_path / "model", tokenizer=tokenizer_folder)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    ids = torch.randint(0, 300, (3, 150))
    with torch.no_grad():
        expected, ours = theirs(ids).logits, model(ids)
    assert (expected - ours).abs().max() < 1e-4
    assert expected.std() > 0.1  # not two constant functions that agree

    generated = theirs.generate(ids[:, :20], max_new_tokens=30, do_sample=False, eos_token_id=None)
    rows = ids[:, :20]
    with torch.no_grad():
        for _ in range(30):
            rows = torch.cat([rows, model(rows)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generated, rows)

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Paris？"}], tokenize=False)
    assert chat == "<|im_start|>user\nParis？<|im_end|>\n"


@pytest.mark.parametrize("family", SHAPES)
def test_loading_a_folder_restores_the_model_exactly(family, tokenizer_folder, tmp_path):
    model = make_model(family)
    save_model(model, tmp_path / "model", tokenizer=tokenizer_folder)
    again = load_model(tmp_path / "model")
    assert again.config == model.config
    ids = torch.randint(0, 300, (1, 40))
    assert torch.equal(again(ids), model(ids))


def test_parameter_count_is_that_of_the_module():
    for family in SHAPES:
        model = make_model(family)
        assert model.config.n_parameters == sum(p.numel() for p in model.parameters())


def test_packed_documents_do_not_see_each_other():
    model = make_model()
    a, b = torch.randint(0, 300, (1, 70)), torch.randint(0, 300, (1, 90))
    documents = torch.tensor([[0] * 70 + [1] * 90])
    packed = model(torch.cat([a, b], dim=1), documents)
    torch.testing.assert_close(packed[:, :70], model(a), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(packed[:, 70:], model(b), atol=1e-5, rtol=1e-4)  # RoPE is relative
    unmasked = model(torch.cat([a, b], dim=1))
    assert (unmasked[:, 70:] - packed[:, 70:]).abs().max() > 1e-2


def test_cache_with_left_padding_equals_the_full_forward():
    model = make_model()
    texts = [torch.randint(0, 300, (n,)) for n in (5, 31, 17)]
    width = max(map(len, texts))
    padding = torch.tensor([width - len(t) for t in texts])
    batch = torch.stack([torch.cat([torch.zeros(width - len(t), dtype=torch.long), t]) for t in texts])
    cache = Cache(model.config, padding, 64, torch.float32)
    with torch.no_grad():
        model(batch[:, :3], cache=cache)
        model(batch[:, 3:30], cache=cache)
        last = model(batch[:, 30:], cache=cache)[:, -1]
        for row, text in zip(last, texts, strict=True):
            torch.testing.assert_close(row, model(text[None])[0, -1], atol=1e-5, rtol=1e-4)
        cache.keep(torch.tensor([2]))
        more = model(torch.tensor([[7]]), cache=cache)[0, -1]
        torch.testing.assert_close(
            more, model(torch.cat([texts[2], torch.tensor([7])])[None])[0, -1], atol=1e-5, rtol=1e-4
        )


def test_impossible_shapes_and_damaged_folders_are_explained(tokenizer_folder, tmp_path):
    with pytest.raises(ValueError, match="not a multiple of n_heads"):
        ModelConfig(vocab_size=300, d_model=100, n_heads=3)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_model(tmp_path)
    save_model(make_model(), tmp_path / "model", tokenizer=tokenizer_folder)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(UserError, match="'mamba' model"):
        load_model(tmp_path / "model")


@pytest.mark.slow  # torch.compile takes a minute
def test_attention_for_gpus_sees_what_blocks_of_matmuls_see():
    """Forward only: torch has no backward pass of it for CPUs."""
    torch.manual_seed(0)
    settings = {"n_layers": 2, "d_model": 128, "n_heads": 4, "n_kv_heads": 2, "context_length": 256}
    model = Transformer(ModelConfig(vocab_size=100, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.1)
        ids, documents = torch.randint(0, 100, (2, 256)), torch.zeros(2, 256, dtype=torch.long)
        documents[0, 100:] = documents[1, 30:] = 1
        expected = model(ids, documents), model(ids)
        for layer in model.model.layers:
            layer.self_attn.attend = flex_attention
        torch.testing.assert_close((model(ids, documents), model(ids)), expected, rtol=1e-4, atol=1e-4)
