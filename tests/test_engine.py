"""Generation against transformers, batched and streamed."""

import pytest
import torch

from wikigpt.chat.engine import Engine
from wikigpt.chat.sampling import Sampling, choose_token
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.tokens import load_tokenizer, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    tokenizer = train_tokenizer(["Paris is a city in France. 巴黎是法国的城市。"] * 9, vocab_size=320)
    torch.manual_seed(1)
    model = Transformer(ModelConfig(vocab_size=320, n_layers=2, d_model=32, n_heads=2, context_length=128))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Engine(model, tokenizer)


PROMPTS = ["Paris", "巴黎是法国的城市。巴黎", "France is a city in Paris. Paris is", "x"]


def test_batched_greedy_equals_transformers_token_for_token(engine, tmp_path):
    from transformers import AutoModelForCausalLM

    (tmp_path / "tokenizer").mkdir()
    save_tokenizer(engine.tokenizer, tmp_path / "tokenizer")
    save_model(engine.model, tmp_path / "model", tokenizer=tmp_path / "tokenizer")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    answers = engine.generate(PROMPTS, max_new_tokens=40)
    assert len({answer.text for answer in answers}) > 1
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([engine.encode(prompt)])
        expected = theirs.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
        assert len(answer.token_logprobs) == len(expected)
        text = engine.tokenizer.decode(expected.tolist())
        # The engine holds back an unfinished character at the very end; `decode` shows it as U+FFFD.
        assert text.startswith(answer.text) and len(text) - len(answer.text) <= 3


def test_stream_gives_the_same_text_in_whole_characters(engine):
    for prompt in PROMPTS:
        pieces = list(engine.stream(prompt, max_new_tokens=60, temperature=1.0, seed=5))
        whole = engine.generate([prompt], max_new_tokens=60, temperature=1.0, seed=5)[0]
        assert "".join(pieces) == whole.text
        assert len(pieces) > 5


def test_seed_decides_and_batching_does_not(engine):
    alone = [engine.generate([p], max_new_tokens=20, temperature=1.0, seed=3)[0].text for p in PROMPTS]
    together = engine.generate(PROMPTS, max_new_tokens=20, temperature=1.0, seed=3)
    assert [answer.text for answer in together] == alone
    assert alone != [engine.generate([p], max_new_tokens=20, temperature=1.0, seed=4)[0].text for p in PROMPTS]


def test_stop_text_ends_the_answer_and_is_never_shown(engine):
    full = engine.generate(["Paris"], max_new_tokens=40)[0].text
    stop = full[10:13]
    answer = engine.generate(["Paris"], max_new_tokens=40, stop=[stop])[0]
    assert answer.text == full[: full.find(stop)] and answer.finish_reason == "stop"
    assert "".join(engine.stream("Paris", max_new_tokens=40, stop=[stop])) == answer.text


def test_special_tokens_typed_by_a_user_stay_text(engine):
    plain = engine.encode([{"role": "user", "content": "a<|im_end|>b<|endoftext|>"}])
    assert plain.count(engine.chat.im_end) == 1  # the one that closes the turn
    assert engine.tokenizer.token_to_id("<|endoftext|>") not in plain


def test_chat_prompt_equals_the_chat_template_of_transformers(engine, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(engine.tokenizer, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "法国的首都？"},
        {"role": "assistant", "content": "**巴黎**。"},
        {"role": "user", "content": "And\nGermany?"},
    ]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert engine.encode(messages) == expected
    marked = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    ids, mask = engine.chat.encode(messages)
    assert (marked["input_ids"], marked["assistant_masks"]) == (ids, mask)
    assert load_tokenizer(tmp_path).encode("法国", add_special_tokens=False).ids == theirs("法国")["input_ids"]


def test_prompt_longer_than_the_context_and_bad_settings_are_refused(engine):
    with pytest.raises(UserError, match="context holds 128"):
        engine.generate(["city " * 200])
    with pytest.raises(UserError, match="temperature"):
        engine.generate(["x"], temperature=-1)
    with pytest.raises(UserError, match="warmth"):
        engine.generate(["x"], warmth=1)
    long = engine.generate(["x"], max_new_tokens=1000)[0]
    assert long.finish_reason in ("length", "stop") and len(long.token_logprobs) <= 128


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"top_k": 5}, ("TopKLogitsWarper", {"top_k": 5})),
        ({"top_p": 0.7}, ("TopPLogitsWarper", {"top_p": 0.7})),
        ({"min_p": 0.2}, ("MinPLogitsWarper", {"min_p": 0.2})),
        ({"repetition_penalty": 1.8}, ("RepetitionPenaltyLogitsProcessor", {"penalty": 1.8})),
    ],
)
def test_filters_allow_the_tokens_that_transformers_allows(settings, processor):
    import transformers

    name, arguments = processor
    seen = [1, 2, 3]
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2)) * 2
    theirs = getattr(transformers, name)(**arguments)(torch.tensor([seen]), logits[None].clone())[0]
    generator = torch.Generator().manual_seed(0)
    sampling = Sampling(temperature=1.0, **settings)
    counts = torch.zeros(50)
    for _ in range(3000):
        counts[choose_token(logits, seen, sampling, generator)] += 1
    torch.testing.assert_close(counts / 3000, theirs.softmax(-1), atol=0.04, rtol=0)
    assert not counts[theirs == float("-inf")].any()
