"""llama.cpp beside torch: our GGUF files, and that both say the same."""

import json
import re

import pytest
import torch

from test_gguf import SHAPES, mixed_strings
from wikigpt.chat.backend import open_backend
from wikigpt.chat.engine import Engine
from wikigpt.errors import UserError
from wikigpt.export.gguf import pre_tokenizer_name, write_gguf
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.model.config import RopeScaling
from wikigpt.model.gguf import PRE_TOKENIZERS, GGUFFile, load_gguf, read_tokenizer, tokenizer_settings
from wikigpt.shipped import mini
from wikigpt.tokens import load_tokenizer, train_tokenizer

pytest.importorskip("xllamacpp")
from wikigpt.chat.llama_cpp import LlamaCppEngine

QUESTIONS = ("Who are you?", "你好", "讲个笑话", "What can you do?", "Thanks!", "写一首诗", "What is 12 + 30?", "再见")
PROMPTS = [[{"role": "user", "content": text}] for text in QUESTIONS]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def reference():
    return Engine.from_folder(mini() / "model")


@pytest.fixture(scope="module")
def llama(cache):
    return LlamaCppEngine.from_folder(mini() / "model", weights="f32", threads=2)


@pytest.mark.parametrize("family", ["qwen3", "llama", "stretched llama"])
@pytest.mark.parametrize(("weights", "tolerance"), [("f32", 0), ("f16", 1e-3), ("q8_0", 5e-3), ("q4_0", 0.1)])
def test_a_written_model_is_read_back(family, weights, tolerance, tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*mixed_strings(100), "Paris 巴黎"] * 3, vocab_size=400)
    shape = SHAPES[family.split()[-1]]
    if "stretched" in family:
        scaling = RopeScaling(factor=32, low_freq_factor=1, high_freq_factor=4, original_context_length=8192)
        shape = {**shape, "rope_scaling": scaling, "rope_theta": 500_000.0, "context_length": 131_072}
    model = Transformer(ModelConfig(family=family.split()[-1], vocab_size=400, **shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    path = tmp_path / "m.gguf"
    write_gguf(model, tokenizer, path, weights=weights)
    file = GGUFFile(path)
    again = load_gguf(file)
    assert again.config == model.config.model_copy(update={"d_ff": model.config.mlp_dim})
    for name, weight in model.state_dict().items():
        assert (again.state_dict()[name] - weight).abs().max() <= tolerance, name
    theirs = read_tokenizer(file)
    for text in mixed_strings(100):
        assert theirs.encode(text).ids == tokenizer.encode(text).ids
    assert tokenizer_settings(file)["eos_token"] == "<|im_end|>"
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]


def test_what_gguf_has_no_place_for_is_named(tmp_path):
    tokenizer = load_tokenizer(mini() / "model")
    assert pre_tokenizer_name(tokenizer) == "qwen2" and "qwen2" in PRE_TOKENIZERS
    gpt2 = Transformer(ModelConfig(family="gpt2", vocab_size=400, n_layers=1, d_model=32, n_heads=2))
    with pytest.raises(UserError, match="gpt2 model; as GGUF, llama and qwen3"):
        write_gguf(gpt2, tokenizer, tmp_path / "m.gguf")
    tokenizer.pre_tokenizer = None
    with pytest.raises(UserError, match="no name for"):
        pre_tokenizer_name(tokenizer)
    assert not [*tmp_path.iterdir()]


def test_both_backends_say_the_same(reference, llama):
    ours, theirs = (engine.generate(PROMPTS, max_new_tokens=60) for engine in (reference, llama))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.text, a.finish_reason, a.prompt_tokens) == (b.text, b.finish_reason, b.prompt_tokens)
        # llama.cpp passes over tokens that end within a character; its keys and values are fp16.
        theirs_of = iter(b.token_logprobs)
        assert all(any(abs(x - y) < 0.01 for x in iter([*a.token_logprobs])) for y in theirs_of)
        assert len(b.token_logprobs) >= 0.7 * len(a.token_logprobs)
    assert llama.count_tokens(PROMPTS[0]) == reference.count_tokens(PROMPTS[0])
    assert llama.generate(["The capital of France is"], max_new_tokens=5)[0].finish_reason == "length"


def test_a_repetition_penalty_and_a_stop_text_mean_the_same(reference, llama):
    for settings in ({"repetition_penalty": 1.5}, {"stop": ["model"]}, {"stop": ["nothing like it", " a"]}):
        ours, theirs = (e.generate(PROMPTS[:1], max_new_tokens=30, **settings)[0] for e in (reference, llama))
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason), settings


def test_a_stream_is_the_answer_in_whole_characters(llama):
    for prompt in PROMPTS[:3]:
        pieces = [*llama.stream(prompt, max_new_tokens=60)]
        assert "".join(pieces) == llama.generate([prompt], max_new_tokens=60)[0].text
        assert len(pieces) > 2 and not any("\ufffd" in piece for piece in pieces)
    stream = llama.stream("Once", max_new_tokens=900)
    next(stream)
    stream.close()  # and the model is free for the next
    assert llama.generate(PROMPTS[:1], max_new_tokens=3)[0].text


def test_seeds_decide_and_differ(llama):
    def told(seed):
        return llama.generate(["The"], seed=seed, temperature=1.2, max_new_tokens=8)[0].text

    told(0)  # from here on the prompt's keys and values are kept, which another batch would round otherwise
    first = [told(seed) for seed in range(6)]
    assert [told(seed) for seed in range(6)] == first and len({*first}) > 3
    assert len({c.text for c in llama.generate(["The"] * 6, seeds=range(6), temperature=1.2, max_new_tokens=8)}) > 3


def test_forms_of_answers_are_kept_to(llama):
    for seed, prompt in enumerate(PROMPTS):
        settings = {"temperature": 1.5, "seed": seed, "max_new_tokens": 30}
        assert llama.generate([prompt], choices=["yes", "no/never"], **settings)[0].text in ("yes", "no/never")
        text = llama.generate([prompt], json_schema=SCHEMA, **settings)[0].text
        assert 0 <= json.loads(text)["n"] <= 99, text
        assert re.fullmatch(
            "[0-9]{4}/[0-9]{2}", llama.generate([prompt], regex="[0-9]{4}/[0-9]{2}", **settings)[0].text
        )
    with pytest.raises(UserError, match=r"regex: .*invalid"):
        llama.generate(PROMPTS[:1], regex="((")


def test_what_cannot_be_computed_is_refused(llama, reference, tmp_path):
    for engine in (llama, reference):
        with pytest.raises(UserError, match="context holds 1024"):
            engine.generate(["巴黎" * 1000])
        with pytest.raises(UserError, match="temperature"):
            engine.generate(["x"], temperature=-1)
    llama.use(None)
    with pytest.raises(UserError, match="no adapter 'terse'"):
        llama.use("terse")
    with pytest.raises(UserError, match="--merge"):
        open_backend(mini() / "model", [tmp_path], name="llama.cpp")
    damaged = tmp_path / "m.gguf"
    damaged.write_bytes(b"GGUF but no more")
    with pytest.raises(UserError, match="cannot load"):
        LlamaCppEngine(damaged, load_tokenizer(mini() / "model"), 64)


def test_the_backend_is_chosen_by_what_it_can_run(tmp_path, monkeypatch):
    assert isinstance(open_backend(mini() / "model", name="llama.cpp"), LlamaCppEngine)
    assert isinstance(open_backend(mini() / "model", name="torch"), Engine)
    for operators, backend in ((True, Engine), (False, LlamaCppEngine)):
        monkeypatch.setattr("wikigpt.chat.backend.available", lambda operators=operators: operators)
        assert isinstance(open_backend(mini() / "model"), backend)
    tokenizer = load_tokenizer(mini() / "model")
    size = tokenizer.get_vocab_size()
    config = ModelConfig(family="gpt2", vocab_size=size, n_layers=1, d_model=32, n_heads=2, context_length=64)
    save_model(Transformer(config), tmp_path / "gpt2", tokenizer=mini() / "model")
    assert isinstance(open_backend(tmp_path / "gpt2"), Engine)
    with pytest.raises(UserError, match="gpt2 model"):
        open_backend(tmp_path / "gpt2", name="llama.cpp")
