"""Prompts, examples, tasks and the search for the best prompt, with a real if untaught model."""

import gzip
import json
import tomllib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from wikigpt.adapt import TASKS, Row, Similar, TaskRunner, Template, export_conversations, load_templates, read_rows
from wikigpt.adapt.prompts import default_template, find_template, parse_templates, variables
from wikigpt.adapt.search import search_prompts, write_winner
from wikigpt.adapt.tasks import known_label, parse_labels
from wikigpt.chat import engine as engine_module
from wikigpt.chat.engine import Engine
from wikigpt.cli import app
from wikigpt.errors import UserError
from wikigpt.evaluate import metrics
from wikigpt.model import ModelConfig, Transformer, save_model
from wikigpt.tokens import encode_texts, save_tokenizer, train_tokenizer
from wikigpt.tokens.conversations import read_folder

REVIEWS = [
    ("a fine film", "1"),
    ("a dull film", "0"),
    ("好看的电影", "1"),
    ("难看的电影", "0"),
    ("dull, dull, dull", "0"),
]


@pytest.fixture(scope="module")
def engine():
    tokenizer = train_tokenizer(["Paris is a city in France. 巴黎是法国的城市。"] * 9, vocab_size=320)
    torch.manual_seed(1)
    model = Transformer(ModelConfig(vocab_size=320, n_layers=2, d_model=32, n_heads=2, context_length=512))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Engine(model, tokenizer)


@pytest.fixture(scope="module")
def model_folder(engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "tokenizer").mkdir()
    save_tokenizer(engine.tokenizer, folder / "tokenizer")
    save_model(engine.model, folder / "model", tokenizer=folder / "tokenizer")
    return folder / "model"


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in REVIEWS), encoding="utf-8")
    return path


def rows(pairs, name="text"):
    return [Row({name: text}, (answer,), f"row {i}") for i, (text, answer) in enumerate(pairs, 1)]


def shipped(name):
    return find_template(load_templates(), name)


def chat(text):
    return [{"role": "user", "content": text}]


def said(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


# Engine.score


def test_scores_are_the_models_own_log_probabilities(engine, monkeypatch):
    prompts = [chat("Paris"), "France is", chat("巴黎是法国的城市吗？" * 4), "x"]
    continuations = [["city", "a city in France", "城市"], ["巴黎"], ["是的", "no"], []]
    for ended in (False, True):
        scores = engine.score(prompts, continuations, ended=ended)
        assert [len(row) for row in scores] == [3, 1, 2, 0]
        for prompt, texts, row in zip(prompts, continuations, scores, strict=True):
            for text, score in zip(texts, row, strict=True):
                ids, tail = engine.encode(prompt), encode_texts(engine.tokenizer, [text])[0]
                if ended:
                    tail = [
                        *tail,
                        engine.tokenizer.token_to_id("<|endoftext|>" if prompt == "France is" else "<|im_end|>"),
                    ]
                with torch.no_grad():
                    logprobs = engine.model(torch.tensor([ids + tail])).log_softmax(-1)[0]
                expected = sum(float(logprobs[len(ids) + i - 1, token]) for i, token in enumerate(tail))
                assert score == pytest.approx(expected, abs=1e-3)
    monkeypatch.setattr(engine_module, "SCORED_TOKENS", 1)  # one prompt at a time
    alone = engine.score(prompts, continuations, ended=True)
    assert [pytest.approx(row, abs=1e-3) for row in scores] == alone


def test_score_refuses_what_it_cannot_score(engine):
    with pytest.raises(UserError, match="empty"):
        engine.score(["Paris"], [["a", ""]])
    with pytest.raises(UserError, match="context holds 512"):
        engine.score(["Paris"], [["Paris " * 600]])


# Templates


def test_every_task_has_several_wordings_in_both_languages_and_a_default():
    templates = load_templates()
    for task in TASKS.values():
        for lang in ("en", "zh"):
            assert len([t for t in templates if (t.task, t.lang) == (task.name, lang)]) >= 2
            assert default_template(templates, task, lang, task.inputs).variables <= {*task.inputs, *task.given}
    assert default_template(templates, TASKS["qa"], "zh", ("question", "context")).name == "qa-zh-passage"
    filled = shipped("qa-passage").messages({"context": "C", "question": "Q?"})
    assert filled == chat("C\n\nAnswer with a few words from the text above: Q?")


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}")))
def test_what_is_filled_in_is_never_read_as_a_template(value, around):
    braces = Template(name="t", task="write", lang="en", user=f"{{{{{around}}}}} {{text}}")
    assert braces.messages({"text": value})[0]["content"] == f"{{{around}}} {value}"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("{text.__class__}", "not a plain variable"),
        ("{text[0]}", "not a plain variable"),
        ("{text!r}", r"\{text!r\} is not a plain variable"),
        ("{text:>9999999}", "not a plain variable"),
        ("{text:{text}}", "not a plain variable"),
        ("{} {text}", "not a plain variable"),
        ("{text", "written twice"),
        ("text}", "written twice"),
        ("{text} {labels}", r"\{labels\} is no variable of write; it has \{text\}"),
        ("no variable", r"leaves out \{text\}"),
    ],
)
def test_wrong_templates_are_named(user, words):
    text = f"[[template]]\nname = 'mine'\ntask = 'write'\nlang = 'en'\nuser = {json.dumps(user)}\n"
    with pytest.raises(UserError, match=words) as error:
        parse_templates(text, "my.toml")
    assert "my.toml, template 'mine'" in str(error.value)


def test_wrong_files_of_templates_are_named(tmp_path):
    path = tmp_path / "my.toml"
    good = "[[template]]\nname = '{}'\ntask = 'write'\nlang = 'en'\nuser = '{{text}}'\n"
    for content, words in [
        ("[[template]\n", "not TOML.*line 1"),
        ("name = 'x'\n", r"\[\[template\]\]"),
        (good.format("a").replace("write", "wrote"), "no task 'wrote'"),
        (good.format("a") + "colour = 'red'\n", "colour"),
        (good.format("a") * 2, "two templates are called 'a'"),
        (good.format("write"), "two templates are called 'write'"),
        (good.format("a") + "labels = ['x', 'y']\n", "labels are for"),
    ]:
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            load_templates(path)
    path.write_text(good.format("a"))
    assert load_templates(path)[0].name == "a"
    with pytest.raises(UserError, match="there is no prompt 'b' of write; prompts are a, write"):
        find_template(load_templates(path), "b", "write")
    with pytest.raises(UserError, match="needs context"):
        shipped("qa-passage").messages({"question": "Q?"})
    assert variables("{{a}} {b}{c}") == ["b", "c"]


# Rows


def test_one_reader_for_tables_and_json(tmp_path):
    def made(name, content):
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    task = TASKS["sentiment"]
    expected = [('a "b", c', "1"), ("好", "0")]
    squad = {"data": [{"paragraphs": [{"context": "C", "qas": [{"question": "Q", "answers": [{"text": "A"}] * 2}]}]}]}
    for path, columns in [
        (made("a.tsv", 'a "b", c\t1\n好\t0\n'), {"text": "1", "label": "2"}),
        (made("b.csv.gz", '\ufefflabel,review\n1,"a ""b"", c"\n0,好\n'), {"text": "review", "answer": "label"}),
        (made("c.jsonl", '{"text": "a \\"b\\", c", "label": 1}\n\n{"text": "好", "answer": "0"}\n'), None),
        (made("d.json", '[{"s": "a \\"b\\", c", "label": 1}, {"s": "好", "label": 0}]'), {"text": "s"}),
    ]:
        assert [
            (row.values["text"], row.answers[0]) for row in read_rows(path, task, columns, answered=True)
        ] == expected
    (row,) = read_rows(made("e.json.gz", json.dumps(squad)), TASKS["qa"], answered=True)
    assert row.values == {"question": "Q", "context": "C"} and row.answers == ("A",)
    assert [r.values["text"] for r in read_rows(made("f.txt", "one\n\n二\n"), task)] == ["one", "二"]
    assert read_rows(made("o.jsonl", '{"text": "a\\ud800"}'), task)[0].values["text"] == "a?"  # no tokenizer takes half
    for path, columns, words in [
        (made("a.tsv", "only\n"), {"text": "1", "label": "2"}, "a.tsv, line 1: no '2'"),
        (made("b.csv", "x,y\n1,2\n"), None, r"b.csv, line 2: no 'text'; it has x, y.*--columns text="),
        (made("j.jsonl", '{"text": "a", "label": 1}\n{"text": \n'), None, "j.jsonl, line 2: not JSON"),
        (made("k.jsonl", '{"text": "a", "label": 1}\n[]\n'), None, "k.jsonl, line 2: an object"),
        (made("l.jsonl", '{"text": {}, "label": 1}\n'), None, "text is needed, not dict"),
        (made("m.txt", "one\n"), None, "m.txt, line 1: no 'label'"),
        (made("n.txt", "\n"), None, "holds no texts"),
        (made("g.csv", "x\n"), {"question": "x"}, "sentiment has no 'question'"),
        (tmp_path / "none.csv", None, "none.csv cannot be read"),
    ]:
        with pytest.raises(UserError, match=words):
            read_rows(path, task, columns, answered=True)
    (tmp_path / "h.csv").write_bytes(b"text\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"h\.csv is not UTF-8"):
        read_rows(tmp_path / "h.csv", task)
    (tmp_path / "i.csv.gz").write_bytes(gzip.compress(b"text\n" * 999)[:-9])
    with pytest.raises(UserError, match=r"i\.csv\.gz is damaged"):
        read_rows(tmp_path / "i.csv.gz", task)


# Examples


@given(
    st.lists(st.text(alphabet="ab 中文。", max_size=12), min_size=1, max_size=6),
    st.text(alphabet="ab 中文。", max_size=12),
)
def test_similarity_is_the_cosine_of_tf_idf(texts, query):
    def grams(text):
        text = f" {' '.join(text.split())} "
        found = [text[i : i + n] for n in (1, 2, 3) for i in range(len(text) - n + 1)]
        return [gram for gram in found if gram != " "]

    terms = sorted({gram for text in [*texts, query] for gram in grams(text)})
    df = np.array([sum(term in grams(text) for text in texts) for term in terms])
    idf = 1 + np.log((1 + len(texts)) / (1 + df))

    def vector(text):
        tf = np.array([grams(text).count(term) for term in terms], dtype=float)
        return np.where(tf > 0, 1 + np.log(np.maximum(tf, 1)), 0) * idf

    ours = Similar(texts).scores(query)
    for text, score in zip(texts, ours, strict=True):
        norms = np.linalg.norm(vector(text)) * np.linalg.norm(vector(query))
        assert score == pytest.approx(vector(text) @ vector(query) / norms if norms else 0, abs=1e-9)


def test_the_nearest_examples_are_shown_as_turns_the_nearest_last_and_never_the_text_itself(engine):
    examples = rows([*REVIEWS, ("a fine film", "1")])
    runner = TaskRunner(
        engine, shipped("sentiment"), examples=examples, shots=2, labels=parse_labels("0=negative,1=positive")
    )
    row = Row({"text": "a fine film"})
    shown = runner.shown(row)
    assert [example.values["text"] for example in shown][-1] == "a dull film" and len(shown) == 2
    assert row.values not in [example.values for example in shown]
    messages = runner.prompt(row, shown)
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2 + ["user"]
    assert messages[-2]["content"] == "negative" and messages[-1]["content"].startswith("a fine film")
    assert [example.values["text"] for example in runner.shown(Row({"text": "好看的电影吗"}))][-1] == "好看的电影"


def test_examples_give_way_to_the_context_the_least_similar_first(engine):
    texts = [f"Paris is a city {'in France ' * 9 * n}" for n in range(1, 9)]
    runner = TaskRunner(
        engine,
        shipped("write-plain"),
        examples=rows([(t, "yes") for t in texts]),
        shots=8,
        sampling={"max_new_tokens": 64},
    )
    row = Row({"text": "Paris is a city in France, in France, in France!"})
    shown = runner.shown(row)
    everything = [texts[i] for i in reversed(Similar(texts).nearest(row.values["text"], 8))]
    assert 1 <= len(shown) < 8
    assert [example.values["text"] for example in shown] == everything[-len(shown) :]
    assert engine.count_tokens(runner.prompt(row, shown)) <= 512 - 64
    longer = [example for example in runner.examples if example.values["text"] == everything[-len(shown) - 1]]
    assert engine.count_tokens(runner.prompt(row, [*longer, *shown])) > 512 - 64
    (result,) = runner.answer([row])
    assert result.shots == len(shown)


# Choosing and generating


def test_a_label_is_chosen_by_its_likelihood_and_calibration_divides_by_the_empty_one(engine):
    template, labels = shipped("classify"), parse_labels("城市=城市, Paris=Paris ,x=a longer name")
    asked = [Row({"text": text}) for text in ("巴黎", "France", "N/A", "x" * 30)]
    plain = list(TaskRunner(engine, template, labels=labels).answer(asked))
    runner = TaskRunner(engine, template, labels=labels, calibrate=True)
    calibrated = list(runner.answer(asked))

    def probabilities(text):
        scores = engine.score([runner.prompt(Row({"text": text}))], [list(labels.values())])[0]
        shares = np.exp(np.array(scores) - max(scores))
        return shares / shares.sum()

    empty = np.mean([probabilities(text) for text in ("N/A", "[MASK]", "")], 0)
    for row, before, after in zip(asked, plain, calibrated, strict=True):
        p = probabilities(row.values["text"])
        assert list(before.probabilities.values()) == pytest.approx(p.tolist(), abs=2e-4)
        assert list(after.probabilities.values()) == pytest.approx((p / empty / (p / empty).sum()).tolist(), abs=2e-3)
        assert before.text == list(labels)[int(p.argmax())]
        assert after.text == list(labels)[int((p / empty).argmax())]
    assert "城市, Paris or a longer name" in runner.prompt(asked[0])[-1]["content"]


def test_a_label_that_begins_another_is_compared_with_its_end(engine):
    runner = TaskRunner(engine, shipped("classify"), labels=parse_labels("new,news"))
    prompt = runner.prompt(Row({"text": "Paris"}))
    ended = np.exp(engine.score([prompt], [["new", "news"]], ended=True)[0])
    (result,) = runner.answer([Row({"text": "Paris"})])
    assert result.probabilities["new"] == pytest.approx(ended[0] / ended.sum(), abs=1e-3)


def test_labels_of_the_data_take_the_words_of_the_template():
    labels = parse_labels("0=negative，1=positive")
    assert TaskRunner(None, shipped("sentiment-review"), labels=labels).words == {"0": "bad", "1": "good"}
    assert TaskRunner(None, shipped("sentiment-zh"), labels=labels).words == {"0": "负面", "1": "正面"}
    assert TaskRunner(None, shipped("sentiment-zh")).words == {"negative": "负面", "positive": "正面"}
    assert known_label("Bad", {"0": "bad", "1": "good"}, "") == "0"
    with pytest.raises(UserError, match=r"row 3: '2' is none of the labels 0=bad, 1=good"):
        known_label("2", {"0": "bad", "1": "good"}, "row 3")
    for wrong, words in [("a,,b", "empty"), ("a,a", "twice"), ("a=", "empty")]:
        with pytest.raises(UserError, match=words):
            parse_labels(wrong)
    with pytest.raises(UserError, match="at least two labels"):
        TaskRunner(None, shipped("classify"))
    with pytest.raises(UserError, match="same word"):
        TaskRunner(None, shipped("classify"), labels={"a": "x", "b": "x"})
    with pytest.raises(UserError, match="write answers freely"):
        TaskRunner(None, shipped("write"), labels={"a": "x", "b": "y"})


def test_translation_goes_into_the_other_language_unless_told():
    template = shipped("translate")
    assert TaskRunner(None, template).prompt(Row({"text": "Hi."})) == chat(
        "Translate this English text into Chinese: Hi."
    )
    assert "Chinese text into English" in TaskRunner(None, template).prompt(Row({"text": "你好。"}))[0]["content"]
    assert "Chinese text into English" in TaskRunner(None, template, to="en").prompt(Row({"text": "OK"}))[0]["content"]
    assert "译成英文" in TaskRunner(None, shipped("translate-zh")).prompt(Row({"text": "你好。"}))[0]["content"]
    with pytest.raises(UserError, match="no language 'fr'"):
        TaskRunner(None, template, to="fr")


def test_generated_answers_are_the_engines_own(engine):
    runner = TaskRunner(engine, shipped("qa"), sampling={"max_new_tokens": 12})
    asked = [Row({"question": text}) for text in ("Paris?", "巴黎？")]
    expected = engine.generate([runner.prompt(row) for row in asked], max_new_tokens=12)
    assert [result.text for result in runner.answer(asked)] == [completion.text.strip() for completion in expected]
    assert "".join(runner.stream(asked[0])).strip() == expected[0].text.strip()


def test_a_text_that_is_too_long_is_named(engine):
    asked = rows([("Paris", "0"), ("Paris " * 600, "1")])
    for name, labels in [("classify", parse_labels("a,b")), ("write", None)]:
        with pytest.raises(UserError, match=r"row 2: the prompt has .* context holds 512"):
            list(TaskRunner(engine, shipped(name), labels=labels).answer(asked))


# Metrics


def test_metrics_have_the_values_worked_out_by_hand():
    pytest.importorskip("sacrebleu", reason="pip install 'wikigpt[eval]'")
    pytest.importorskip("rouge_score", reason="pip install 'wikigpt[eval]'")
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours, equal length
    precisions = (5 / 6) * (3 / 5) * (2 / 4) * (1 / 3)
    assert metrics.bleu(["the cat sat on the mat"], [["the cat sat on a mat"]]) == pytest.approx(precisions**0.25)
    precisions = (5 / 6) * (4 / 5) * (3 / 4) * (2 / 3)
    assert metrics.bleu(["今天天气很坏"], [["今天天气很好"]], "zh") == pytest.approx(precisions**0.25)
    assert metrics.bleu(["今天天气很坏"], [["今天天气很好"]], "en") < 0.1  # one word there
    references = [["a b c d e"], ["h h h h", "x y z w q"]]  # not all have as many
    assert metrics.bleu(["a b c d e", "x y z w q"], references) == pytest.approx(1)
    # "abc" against "abd": 2 of 3 letters, 1 of 2 pairs, 0 of 1 triple, as precision and as recall
    assert metrics.chrf(["abc"], [["abd"]]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.sentence_chrf("好的", ["不好", "好的"]) == pytest.approx(1)
    assert metrics.rouge_l("今天天气很坏", ["今天天气很好"]) == pytest.approx(5 / 6)
    assert metrics.rouge_l("The Cat sat", ["a dog", "the cat"]) == pytest.approx(2 * 2 / (3 + 2))
    assert metrics.rouge_l("", ["the cat"]) == 0


def test_accuracy_and_macro_f1_by_hand():
    predicted, gold = list("aabbc"), list("abbba")
    assert metrics.accuracy(predicted, gold) == 3 / 5
    # a: 1 hit of 2 and 2; b: 2 hits of 2 and 3; c: none of 1 and 0
    assert metrics.macro_f1(predicted, gold) == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    with pytest.raises(ValueError, match="0 texts"):
        metrics.accuracy([], [])


# Search


class Counting(Engine):
    """Counts the prompts that it scores."""

    scored = 0

    def score(self, prompts, continuations, **settings):
        self.scored += len(prompts)
        return super().score(prompts, continuations, **settings)


def test_a_search_goes_on_where_it_stopped_and_its_winner_can_be_used(engine, tmp_path, reviews):
    counting = Counting(engine.model, engine.tokenizer)
    templates = [t for t in load_templates() if t.task == "sentiment" and t.lang == "en"]
    dev = read_rows(reviews, TASKS["sentiment"], {"text": "1", "label": "2"})
    settings = {"labels": parse_labels("0=negative,1=positive"), "examples": dev, "shots": (0, 2)}
    partial = tmp_path / "partial.json"
    started = search_prompts(counting, templates, dev, partial=partial, **settings)
    first = [next(started), next(started), next(started)]
    started.close()
    assert counting.scored == 3 * len(dev)
    tried = list(search_prompts(counting, templates, dev, partial=partial, **settings))
    assert tried[:3] == first and counting.scored == 6 * len(dev)
    assert [(t.template, t.shots) for t in tried] == [(t.name, k) for t in templates for k in (0, 2)]
    list(search_prompts(counting, templates[:1], dev[:4], partial=partial, **settings))  # other rows: nothing is known
    assert counting.scored == 6 * len(dev) + 2 * 4
    best = max(tried, key=lambda t: t.score)
    runner = TaskRunner(engine, shipped(best.template), labels=settings["labels"], examples=dev, shots=best.shots)
    right = np.mean([r.text == row.answers[0] for r, row in zip(runner.answer(dev), dev, strict=True)])
    assert best.score == pytest.approx(right, abs=1e-4)
    assert best.error == pytest.approx((right * (1 - right) / len(dev)) ** 0.5, abs=1e-4)
    write_winner(tmp_path / "best.toml", best, shipped(best.template), labels=runner.words)
    again = load_templates(tmp_path / "best.toml")[0]
    assert (again.user, again.words, again.shots) == (runner.template.user, runner.words, best.shots)
    assert again.measured["accuracy"] == best.score


def test_search_and_task_on_the_command_line(model_folder, reviews, tmp_path):
    columns = ["--columns", "text=1,label=2"]
    best = tmp_path / "best.toml"
    searched = said(
        *("prompts", "search", "sentiment", "--model", model_folder, "--dev", reviews, *columns, "--shots", "1,2"),
        *("--labels", "0=negative,1=positive", "--examples", reviews, "-o", best, "--json"),
    )
    assert searched.exit_code == 0, searched.exception
    table = json.loads(searched.stdout)
    assert len(table) == 6 and [t["score"] for t in table] == sorted((t["score"] for t in table), reverse=True)
    assert not list(tmp_path.glob("*.partial.json"))
    winner = tomllib.loads(best.read_text())["template"][0]
    assert winner["shots"] == table[0]["shots"] and winner["examples"] == "reviews.tsv"
    (tmp_path / "texts.txt").write_text("a fine film\n难看\n")
    done = said("task", "sentiment", "--file", tmp_path / "texts.txt", "-m", model_folder, "--prompts", best, "--json")
    assert done.exit_code == 0, done.exception
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] in ("0", "1") and line["shots"] == winner["shots"] for line in lines] == [True, True]
    assert [sum(line["probabilities"].values()) for line in lines] == pytest.approx([1, 1], abs=1e-4)


def test_task_list_show_and_mistakes(model_folder, tmp_path, reviews):
    listed = said("task", "--list").output
    assert all(name in listed for name in (*TASKS, "sentiment-zh", "{question}"))
    shown = said("prompts", "show", "sentiment-zh").output
    assert tomllib.loads(shown)["template"][0]["labels"] == {"negative": "负面", "positive": "正面"}
    answer = said("task", "qa", "Paris?", "--model", model_folder, "--max-new-tokens", 8)
    assert answer.exit_code == 0 and answer.output.endswith("\n")
    for arguments, words in [
        (["task"], "which task"),
        (["task", "dance", "x"], "no task 'dance'; tasks are qa"),
        (["task", "qa", "x"], "which model"),
        (["task", "qa", " ", "-m", model_folder], "no text"),
        (["task", "qa", "x", "-m", tmp_path], "holds no model"),
        (["task", "qa", "x", "-m", model_folder, "--prompt", "qa-passage"], "needs context"),
        (["task", "qa", "x", "-m", model_folder, "--var", "colour=red"], "qa has question, context"),
        (["task", "qa", "x", "-m", model_folder, "--shots", "2"], "--examples FILE"),
        (["task", "classify", "x", "-m", model_folder], "at least two labels"),
        (["task", "qa", "x", "-m", model_folder, "--lang", "fr"], "languages are en, zh"),
        (["prompts", "show", "none"], "there is no prompt 'none'"),
    ]:
        result = said(*arguments)
        assert isinstance(result.exception, UserError), (arguments, result.output)
        assert words in str(result.exception)


# Export


def test_exported_conversations_are_what_finetune_reads(reviews, tmp_path):
    arguments = ["prompts", "export", "sentiment", "--data", reviews, "--columns", "text=1,label=2"]
    arguments += ["--labels", "0=negative,1=positive", "--validation", "0.4", "--quiet", "--lang", "en"]
    for output in (tmp_path / "c.jsonl", tmp_path / "folder"):
        result = CliRunner().invoke(app, [*map(str, arguments), "-o", str(output)])
        assert result.exit_code == 0, result.exception
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    read = list(read_folder(tmp_path / "folder"))
    assert [split for split, _ in read] == ["train"] * 3 + ["en"] * 2
    key = json.dumps
    assert sorted(key(messages) for _, messages in read) == sorted(key(line["messages"]) for line in lines)
    assert {line["task"] for line in lines} == {"sentiment"} and all(line["sources"] == [] for line in lines)
    for line, (text, label) in zip(lines, REVIEWS, strict=True):
        user, assistant = line["messages"]
        assert text in user["content"]
        assert assistant["content"] in (("negative", "bad"), ("positive", "good"))[int(label)]


def test_exported_wordings_differ_and_use_only_what_a_row_has():
    asked = [Row({"question": "Q?", "context": "C"} if i % 2 else {"question": "Q?"}, ("A",)) for i in range(40)]
    templates = [t for t in load_templates() if t.task == "qa" and t.lang == "en"]
    made = list(export_conversations(asked, templates))
    assert len({json.dumps(c["messages"]) for c in made}) == 5
    assert all("C" not in c["messages"][-2]["content"].split("\n") for c in made[::2])
    assert made == list(export_conversations(asked, templates)) != list(export_conversations(asked, templates, seed=1))
