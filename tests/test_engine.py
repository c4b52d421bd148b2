"""Generation against transformers, batched and streamed."""

import json
import re

import pytest
import torch

from wikigpt.chat.engine import Engine
from wikigpt.chat.sampling import Sampling, choose_token
from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.shipped import mini
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


@pytest.mark.slow
def test_two_hundred_greedy_answers_are_transformers(tmp_path):
    """Wiki-GPT mini goes on with the beginnings of passages, 100 English and 100 Chinese; alone and in batches."""
    import sqlite3

    from transformers import AutoModelForCausalLM

    engine = Engine.from_folder(mini() / "base")
    save_model(engine.model, tmp_path / "model", tokenizer=mini() / "base")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    sql = "SELECT text FROM passages JOIN articles USING (article) WHERE lang = ? AND kind = 'lead' LIMIT 100"
    with sqlite3.connect(mini() / "knowledge" / "index.sqlite") as database:
        texts = [text for lang in ("en", "zh") for (text,) in database.execute(sql, (lang,))]
    prompts = [text[: len(text) // 2] for text in texts]
    answers = engine.generate(prompts, max_new_tokens=24)
    differ = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([engine.encode(prompt)])
        expected = theirs.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
        text = engine.tokenizer.decode(expected.tolist())
        if not text.startswith(answer.text) or len(answer.token_logprobs) != len(expected):
            differ.append((prompt, text, answer.text))
    assert len(prompts) == 200 and not differ, differ


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
    assert plain.count(engine.prompts.chat.im_end) == 1  # the one that closes the turn
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
    ids, mask = engine.prompts.chat.encode(messages)
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


CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "size": {"enum": ["small", "large"]},
        "years": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["name", "size", "years"],
    "additionalProperties": False,
}


def test_answers_keep_to_a_schema_whatever_the_model_would_say(engine):
    answers = engine.generate(PROMPTS * 5, seeds=range(20), temperature=1.5, max_new_tokens=120, json_schema=CITY)
    assert len({answer.text for answer in answers}) > 10
    for answer in answers:
        assert answer.finish_reason == "stop"
        told = json.loads(answer.text)
        assert list(told) == ["name", "size", "years"] and len(told["name"]) <= 12
        assert told["size"] in ("small", "large")
        assert len(told["years"]) <= 3 and all(0 <= year <= 99 for year in told["years"])
    assert "".join(engine.stream("x", max_new_tokens=120, json_schema=CITY)) == (
        engine.generate(["x"], max_new_tokens=120, json_schema=CITY)[0].text
    )


def test_answers_keep_to_a_regular_expression_or_are_one_of_some_texts(engine):
    for answer in engine.generate(PROMPTS, seeds=range(4), temperature=1.0, regex=r"[0-9]{4}年(前|后)"):
        assert re.fullmatch(r"[0-9]{4}年(前|后)", answer.text) and answer.finish_reason == "stop"
    choices = ('say "yes"', "否", "no", "not at all")  # one begins another
    said = {a.text for a in engine.generate(["x"] * 60, seeds=range(60), temperature=2.0, choices=choices)}
    assert said <= {*choices} and len(said) > 1
    # Of two texts as long as each other the likelier token decides.
    scores = engine.score(["x"], [["a", "b"]])[0]
    assert engine.generate(["x"], choices=["a", "b"])[0].text == "ab"[scores.index(max(scores))]


def test_log_probabilities_of_a_forced_answer_are_those_the_model_gave_it(engine):
    answer = engine.generate(["Paris"], choices=["巴黎"])[0]
    assert sum(answer.token_logprobs[:-1]) == pytest.approx(engine.score(["Paris"], [["巴黎"]])[0][0], abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"json_schema": {"type": "nonsense"}}, "json_schema: .*nonsense"),
        ({"regex": "(("}, "regex: .*invalid"),
        ({"regex": "a", "choices": ["b"]}, "regex and choices contradict each other"),
        ({"choices": [""]}, "empty text"),
    ],
)
def test_forms_that_make_no_sense_are_refused(engine, settings, complaint):
    with pytest.raises(UserError, match=complaint):
        engine.generate(["x"], **settings)
