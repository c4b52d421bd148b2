"""The gate, the held-out rule, balance, augmentations, opinions and preference pairs of conversations from a wiki."""

import json
import lzma
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_instruct import HELD_OUT, corpus_folder, countries
from wikigpt.chat.grounding import NOT_FOUND, cited, without_citations
from wikigpt.corpus.document import Document
from wikigpt.instruct import InstructSettings, Made, Share, build_conversations, catalogue, make_conversations
from wikigpt.instruct.articles import View, glean
from wikigpt.instruct.augment import back_translated, entity_swapped, last_asked, noisy, paraphrase
from wikigpt.instruct.balance import balanced
from wikigpt.instruct.gate import (
    Gate,
    last_question,
    passages_of,
    question_of,
    reason_against,
    stands_in,
    value_of,
)
from wikigpt.instruct.preference import FAULTS
from wikigpt.instruct.relations import read_toml
from wikigpt.instruct.sentiment import opinions, sentiments
from wikigpt.instruct.wording import bare
from wikigpt.tokens.pairs import read_pairs

DATA = Path(os.environ.get("WIKIGPT_DATA", Path(__file__).parents[2] / "shared/data"))
REAL = {lang: DATA / f"text/{lang}wiki.jsonl.xz" for lang in ("en", "zh")}
ARTICLES = 220  # of each language of the real text


@pytest.fixture(scope="module")
def made() -> Made:
    return make_conversations(countries(), InstructSettings(pairs=Share(weight=2, maximum=200)), 7)


def real_documents() -> Iterator[Document]:
    for lang, path in REAL.items():
        if not path.is_file():
            pytest.skip(f"{path} is not there; set WIKIGPT_DATA to the folder of the real data")
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for number, line in zip(range(ARTICLES), lines, strict=False):
                row = json.loads(line)
                split = "validation" if number % 10 == 9 else "train"
                yield Document(str(row["id"]), "1", "u", row["title"], row["text"], lang, split=split)


@pytest.fixture(scope="module")
def real() -> Made:
    return make_conversations(real_documents(), InstructSettings(), 0)


def talk(*turns: str, task: str = "grounded", lang: str = "en") -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"messages": messages, "task": task, "lang": lang, "sources": []}


ASKED = "[1] Paris: Paris has 2 parks.\n[2] Oslo: Oslo has 1,200 lakes; founded 1048年.\n\nHow many lakes?"
LONG_WORD = "Lorem ipsum dolor sit amet. "


@pytest.mark.parametrize(
    ("reason", "conversation"),
    [
        (None, talk(ASKED, "It has **1,200** lakes [2].")),
        (None, talk(ASKED, "**1048年**[2]。")),
        (None, talk(ASKED, NOT_FOUND["en"])),
        (None, talk("???", "I did not understand that.")),
        (None, talk("What is C?", "C is a language whose programs begin with main().")),
        (None, talk("[1] X: Cut (; 1360) , and an area of .\n\nWhere?", "In **1360** [1].")),  # passages are as found
        ("ungrounded", talk(ASKED, "It has **1,200** lakes [1].")),
        ("ungrounded", talk(ASKED, "It has **200** lakes [2].")),
        ("ungrounded", talk(ASKED, "It has 1,200 lakes [2].")),
        ("uncited", talk(ASKED, "It has **1,200** lakes.")),
        ("uncited", talk(ASKED, "It has **1,200** lakes [3].")),
        ("uncited", talk(ASKED, "It has **1,200** lakes [1] [2].")),
        ("roles", talk("Hi", "Hello", "And now?")),
        ("roles", talk()),
        ("empty", talk("Hi", "…")),
        ("empty", talk(" ", "Hello")),
        ("long", talk("Hi", LONG_WORD * 30)),
        ("long", talk(LONG_WORD * 400, "Hello")),
        ("markup", talk("What is X?", "X is {{lang|fr|y}}.")),
        ("markup", talk("What is {title}?", "X is y.")),
        ("markup", talk("What is X?", "X<ref>1</ref> is y.")),
        ("markup", talk("What is X?", "X has an area of .")),
        ("markup", talk("What is X?", "X (born ; died 1403) was y.")),
        ("markup", talk("X是什么？", "X（）是一座城市。")),
        ("markup", talk("X是什么？", "X位于、，是一座城市。")),
        ("repeated", talk("What is X?", "X is a town. It is old. X is a town.")),
        ("repeated", talk("What is X?", "X lies in Northern Italy in Northern Italy.")),
        ("repeated", talk("X在哪里？", "X位于四川省成都市，四川省成都市。")),
    ],
)
def test_the_gate_says_what_is_wrong(reason: str | None, conversation: dict[str, Any]) -> None:
    assert reason_against(conversation) == reason


def test_roles_have_to_alternate() -> None:
    twice = talk("Hi", "Hello")
    twice["messages"][1]["role"] = "user"
    assert reason_against(twice) == "roles"


def test_what_the_gate_stops_is_counted_by_kind_and_reason() -> None:
    gate = Gate()
    good, bad = talk("Hi", "Hello", task="small_talk"), talk("X?", "X {{is}} y.", task="definition", lang="zh")
    assert list(gate.passed([good, bad, bad])) == [good]
    assert gate.counts("zh") == {"definition": {"markup": 2}} and gate.counts("en") == {}


def test_an_article_with_holes_is_not_taught_and_counted(tmp_path: Path) -> None:
    hole = Document("h", "1", "u", "Marettimo", "Marettimo is an island with a total area of .\n\nIt is small.", "en")
    manifest = build_conversations(
        corpus_folder(tmp_path, [*countries(), hole]), tmp_path / "out", settings=InstructSettings(), seed=1
    )
    assert manifest["languages"]["en"]["dropped"]["definition"] == {"markup": 2}
    told = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not [c for c in told if c["task"] == "definition" and c["sources"][0]["title"] == "Marettimo"]


@pytest.mark.parametrize("name", ["made", "real"])
def test_everything_made_passes_the_gate(name: str, request: pytest.FixtureRequest) -> None:
    everything: Made = request.getfixturevalue(name)
    for c in [*everything.train, *everything.validation]:
        assert reason_against(c) is None, c
    for pair in [*everything.pairs, *everything.pairs_validation]:
        answer = {"role": "assistant", "content": pair["chosen"]}
        assert reason_against({**pair, "messages": [*pair["messages"], answer]}) is None, pair


def check_nothing_held_out_is_taught(
    train: list[dict[str, Any]], held: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    taught = {last_question(c) for c in train}
    assert len(taught) > 100 and held and asked
    assert not [c for c in held if last_question(c) in taught]
    assert not [q["question"] for q in asked if bare(q["question"]) in taught]


@pytest.mark.parametrize("name", ["made", "real"])
def test_no_question_is_held_out_and_taught(name: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(name)
    check_nothing_held_out_is_taught([*made.train, *made.pairs], made.validation, made.questions)
    check_nothing_held_out_is_taught([*made.train, *made.pairs], made.pairs_validation, made.questions)


def test_no_question_of_the_sample_wiki_is_held_out_and_taught(run: Path) -> None:
    names = ("train", "pairs", "validation", "pairs-validation", "questions")
    train, pairs, validation, held_pairs, asked = (
        [json.loads(line) for line in (run / f"conversations/{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in names
    )
    check_nothing_held_out_is_taught([*train, *pairs], [*validation, *held_pairs], asked)


def test_a_question_that_a_twin_of_a_held_out_article_asks_is_not_held_out() -> None:
    """Two languages without phrasings can hold the same title and key; one article held out, the other taught."""
    twins = [
        Document("1", "1", "u", "Roma", "", "it", facts=(("area", "1285"),), split="validation"),
        Document("2", "1", "u", "Roma", "", "ro", facts=(("area", "1285"),), split="train"),
        Document("3", "1", "u", "Milano", "", "it", facts=(("area", "181"),), split="validation"),
    ]
    made = make_conversations([*countries(), *twins], InstructSettings(), 0)
    held = {c["messages"][0]["content"] for c in made.validation}
    assert "Milano: area?" in held and "Roma: area?" not in held


MALI = "迪卡，是马里的城镇，面积600平方公里，海拔高度274米，2009年人口14,313，人口密度每平方公里46人。"
FACTS_IN_TEXT = [
    (
        "en",
        "County Fermanagh",
        "County Fermanagh is a county of Ireland. The county has a population of 61,805.",
        "population",
        "61,805",
    ),
    (
        "en",
        "Das Boot",
        "Das Boot is a 1981 German war film directed by Wolfgang Petersen and produced by Günter Rohrbach.",
        "director",
        "Wolfgang Petersen",
    ),
    (
        "en",
        "Dracula",
        "Dracula is an 1897 Gothic horror novel by Irish author Bram Stoker. It introduced Count Dracula.",
        "author",
        "Bram Stoker",
    ),
    (
        "en",
        "Crash (Ballard novel)",
        "Crash is a novel by J. G. Ballard, first published in 1973. It is about fetishism.",
        "author",
        "J. G. Ballard",
    ),
    (
        "en",
        "Elias Canetti",
        "Elias Canetti (1905–1994) was a writer. He was born in Ruse, Bulgaria to a merchant family.",
        "birth_place",
        "Ruse, Bulgaria",
    ),
    (
        "en",
        "Ericsson",
        "Ericsson is a Swedish company headquartered in Stockholm. It sells networks.",
        "headquarters",
        "Stockholm",
    ),
    (
        "en",
        "Amdahl's law",
        "Amdahl's law is a formula. It is named after computer scientist Gene Amdahl.",
        "named_after",
        "Gene Amdahl",
    ),
    (
        "en",
        "Kennedy family",
        "The Kennedy family is an American political family, that has long been prominent.",
        "kind",
        "an American political family",
    ),
    (
        "zh",
        "迪卡",
        MALI,
        "population",
        "14,313",
    ),
    (
        "zh",
        "迪卡",
        MALI,
        "area_km2",
        "600",
    ),
    ("zh", "绝命救援", "《绝命救援》是一部美国电影，由克雷格·格里斯佩执导。", "director", "克雷格·格里斯佩"),
    ("zh", "高伟光", "高伟光，中国演员，出生于黑龙江省鸡西市。", "birth_place", "黑龙江省鸡西市"),
    ("zh", "质感设计", "质感设计是一种设计语言，由Google开发。", "developer", "Google"),
]


@pytest.mark.parametrize(("lang", "title", "text", "relation", "value"), FACTS_IN_TEXT)
def test_running_text_gives_facts_where_there_is_no_infobox(
    lang: str, title: str, text: str, relation: str, value: str
) -> None:
    document = Document("1", "1", "u", title, text, lang)
    found = {fact.relation.id: fact.value for fact in glean(document, catalogue(), None, [], 480).facts}
    assert found.get(relation) == value
    boxed = replace(document, facts=(("colour", "red"),))  # its infobox is to say what is so
    assert relation in ("birth_year", "location") or relation not in {f.relation.id for f in catalogue().facts(boxed)}


@pytest.mark.parametrize(
    ("lang", "title", "text", "relation"),
    [
        ("en", "Algorithm", "An algorithm is a method. Many journals exist. One was founded in 2008.", "founded_year"),
        ("en", "Aveiro, Portugal", "Aveiro, Portugal is a city in Portugal. It is old.", "location"),
        ("en", "Acid", "An acid is a molecule or ion capable of donating a proton.", ""),
        ("zh", "大学城", "大学城是一个地区。许多大学成立于1900年。", "founded_year"),
        ("zh", "穿洞遗址", "穿洞遗址位于一个大溶蚀盆地中，是遗址。", "location"),
    ],
)
def test_what_text_says_of_other_things_is_no_fact(lang: str, title: str, text: str, relation: str) -> None:
    found = {
        f.relation.id: f.value
        for f in glean(Document("1", "1", "u", title, text, lang), catalogue(), None, [], 480).facts
    }
    assert relation not in found and "capable" not in found.get("kind", "")


def test_real_text_without_infoboxes_gives_conversations_of_many_kinds(real: Made) -> None:
    for lang in ("en", "zh"):
        counts = Counter(c["task"] for c in real.train if c["lang"] == lang)
        assert min(counts[task] for task in ("fact", "definition", "grounded", "cloze", "sentiment")) > 20
        assert counts["summary"] and counts["unanswerable"] and counts["follow_up"]
        opened = [c for c in real.train if c["task"] == "grounded" and c["lang"] == lang]
        assert len({c["sources"][0]["id"] for c in opened}) > 30
        assert real.counts[lang]["pairs"].keys() == {*FAULTS, "made_up"}


def test_people_are_asked_for_as_people_and_several_in_the_plural() -> None:
    texts = {
        "Aphra Lund": "Aphra Lund is an English cook. She became known for bread.",
        "Basques": "Basques are a people of Europe. They speak Basque.",
        "Cork": "Cork is a material of bark. It floats on water.",
    }
    documents = [Document(title, "1", "u", title, text, "en") for title, text in texts.items()]
    made = make_conversations(
        documents, InstructSettings(definition=Share(weight=10, maximum=99), chatter=0, noise=0), 0
    )
    asked: dict[str, str] = dict.fromkeys(texts, "")
    for c in made.train:
        if c["task"] == "definition":
            asked[c["sources"][0]["title"]] += c["messages"][0]["content"] + "\n"
    assert "Who is Aphra Lund?" in asked["Aphra Lund"] and "What is" not in asked["Aphra Lund"]
    assert "What are Basques?" in asked["Basques"] and not re.search(r"\bis (?:Basques|it)\b", asked["Basques"])
    assert "What is cork?" in asked["Cork"] or "What is Cork?" in asked["Cork"]


def test_the_same_is_made_whatever_the_order_of_sets() -> None:
    """Python orders sets of strings anew in each process; what is made must not hang on it."""
    code = (
        "import hashlib, json, sys\n"
        "from wikigpt.corpus.document import Document\n"
        "from wikigpt.instruct import InstructSettings, make_conversations\n"
        "names = [f'{a}{b}之书' for a in '山海风云' for b in '东西南北']\n"
        "text = '《{0}》是一部小说，作者是某甲{1}。《{0}》很长。'\n"
        "documents = [Document(str(n), '1', 'u', name, text.format(name, n), 'zh',\n"
        "    facts=(('作者', f'某甲{n}'), ('体裁', '小说'))) for n, name in enumerate(names)]\n"
        "made = make_conversations(documents, InstructSettings(invented=1), 0)\n"
        "print(hashlib.sha256(json.dumps([made.train, made.pairs]).encode()).hexdigest())\n"
    )
    digests = set()
    for number in "0123":
        environment = {**os.environ, "PYTHONHASHSEED": number}
        command = [sys.executable, "-c", code]
        digests.add(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert len(digests) == 1


def test_opinions_are_balanced_and_held_out_ones_are_new() -> None:
    for lang in ("en", "zh"):
        table = read_toml("sentiment.toml")[lang]
        training, heldout = opinions(lang, heldout=False), opinions(lang, heldout=True)
        assert len({text for text, _ in training + heldout}) == 120 and len(heldout) == 18
        counts = Counter(label for _, label in training)
        assert counts.keys() == set(table["labels"].values()) and max(counts.values()) <= 1.2 * min(counts.values())
        taught = list(sentiments(lang, Share(weight=4, maximum=999), Random(0)))
        measured = list(sentiments(lang, Share(weight=2, maximum=999), Random(0), heldout=True))
        assert len(taught) == 4 * len(training) == len({last_question(c) for c in taught}) and len(measured) == 36
        told = "\n".join(c["messages"][0]["content"] for c in taught)
        assert not [text for text, _ in heldout if text in told]
        right = dict(training + heldout)
        for c in taught + measured:
            asked, answer = (m["content"] for m in c["messages"])
            (text,) = [text for text in right if text in asked and bare(text) in last_question(c)][-1:]
            assert value_of(answer) == right[text]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["en", "zh"])), max_size=300),
    st.floats(0, 1),
)
def test_balance_thins_what_is_large_and_nothing_else(kinds: list[tuple[str, str]], balance: float) -> None:
    entries = [{"task": task, "lang": lang, "n": n} for n, (task, lang) in enumerate(kinds)]
    kept = balanced(entries, balance, 0)
    assert balanced(entries, 0, 0) == entries and balanced(entries, balance, 0) == kept
    assert [c["n"] for c in kept] == sorted(c["n"] for c in kept)
    assert len(balanced(entries, 1, 0)) <= len(kept) + 8  # rounding
    if not entries:
        return
    even = balanced(entries, 1, 0)
    langs, before = Counter(c["lang"] for c in even), Counter(lang for _, lang in kinds)
    assert langs.keys() == before.keys() and max(langs.values()) <= min(langs.values()) + 4
    for lang in langs:
        sizes = sorted(Counter(task for task, code in kinds if code == lang).values())
        assert max(Counter(c["task"] for c in even if c["lang"] == lang).values()) <= sizes[(len(sizes) - 1) // 2]


def test_balance_is_obeyed_when_conversations_are_made(made: Made) -> None:
    thin = make_conversations(countries(), InstructSettings(pairs=Share(weight=2, maximum=200), balance=0.5), 7)
    largest = Counter(c["task"] for c in made.train if c["lang"] == "en").most_common(1)[0]
    assert thin.counts["en"]["train"][largest[0]] < 0.7 * largest[1]
    assert thin.counts["en"]["train"]["sentiment"] <= made.counts["en"]["train"]["sentiment"]
    assert thin.counts["en"]["train"] == Counter(c["task"] for c in thin.train if c["lang"] == "en")
    assert {json.dumps(c) for c in thin.train} <= {json.dumps(c) for c in made.train}


@pytest.mark.parametrize(
    ("lang", "question", "name"),
    [
        ("en", "What is the capital of Peru?", "Peru"),
        ("zh", "秘鲁的首都是什么？", "秘鲁"),
        ("en", "peru capital", "peru"),
    ],
)
def test_paraphrases_are_many_and_keep_the_names(lang: str, question: str, name: str) -> None:
    found = {paraphrase(question, lang, Random(n)) for n in range(300)}
    assert len(found) > 80 and question not in found
    assert all(name in text and ("首都" in text or "capital" in text) for text in found)


@given(st.sampled_from(["typos", "spaces"]), st.integers(0, 10**6))
def test_slips_spare_names_and_digits(way: Any, seed: int) -> None:
    question, names = "Please tell me the population of New Zealand in 1984, roughly?", ["New Zealand"]
    slipped = noisy(question, "en", Random(seed), way, names)
    assert slipped != question and "New Zealand" in slipped and "1984" in slipped
    assert abs(len(slipped) - len(question)) <= 1
    if way == "spaces":
        assert slipped.replace(" ", "") == question.replace(" ", "")


@given(st.integers(0, 10**6))
def test_chinese_slips_sound_alike(seed: int) -> None:
    question = "请问的里雅斯特的首都在哪里？"
    slipped = noisy(question, "zh", Random(seed), "typos", ["的里雅斯特"])
    assert "的里雅斯特" in slipped and sum(a != b for a, b in zip(question, slipped, strict=True)) == 1


def test_traditional_questions_say_the_same() -> None:
    from opencc import OpenCC

    question = "请问台湾后面的发展是什么？"
    slipped = noisy(question, "zh", Random(0), "traditional")
    assert slipped != question and OpenCC("t2s").convert(slipped) == question
    assert noisy("What is it?", "en", Random(0), "traditional") == "What is it?"


def views() -> dict[str, View]:
    articles = [glean(document, catalogue(), None, [], 480) for document in countries()]
    return {lang: View(lang, [a for a in articles if a.lang == lang]) for lang in ("en", "zh")}


def test_a_question_names_its_subject_in_the_other_language(made: Made) -> None:
    known = views()
    done = 0
    for c in made.train:
        article = known[c["lang"]].titles.get(c["sources"][0]["title"]) if len(c["sources"]) == 1 else None
        if article and (turned := back_translated(c, article)):
            done += 1
            other = dict(article.langlinks)["zh" if c["lang"] == "en" else "en"]
            assert other in last_asked(turned) and article.name.casefold() not in last_asked(turned).casefold()
            assert turned["messages"][-1] == c["messages"][-1]
            assert passages_of(turned["messages"][-2]["content"]) == passages_of(c["messages"][-2]["content"])
    assert done > 50
    nothing = talk("What is the capital of Japan?", "Tokyo.", task="fact")
    assert back_translated(nothing, known["en"].titles["France"]) is None


def test_an_entity_is_swapped_without_a_trace() -> None:
    known = views()
    plain = make_conversations(countries(), InstructSettings(grounded=Share(weight=5, maximum=500), invented=0), 7)
    done = 0
    for c in (c for c in plain.train if c["task"] == "grounded"):
        article = known[c["lang"]].titles[c["sources"][0]["title"]]
        other = known[c["lang"]].titles["Egypt" if c["lang"] == "en" else "埃及"]
        if turned := entity_swapped(c, article, other):
            done += 1
            asked, answer = (m["content"] for m in turned["messages"])
            assert article.name.casefold() not in (asked + answer).casefold() and other.name in question_of(asked)
            (number,) = cited(answer)
            passage = passages_of(asked)[number]
            assert passage.startswith(other.name) and stands_in(value_of(answer), passage)
            assert value_of(answer) == value_of(c["messages"][-1]["content"])
    assert done > 50


@pytest.mark.parametrize(
    "change",
    [{"paraphrase": 0.5}, {"noises": ["typos"], "noise": 0.5}, {"back_translation": 0.5}, {"entity_swap": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_augmentations_rewrite_some_and_add_none(change: dict[str, Any]) -> None:
    base = {"noise": 0.5, "invented": 0, "grounded": Share(weight=4, maximum=400), "pairs": Share(weight=0, maximum=0)}
    plain = make_conversations(countries(), InstructSettings(**base), 7)
    other = make_conversations(countries(), InstructSettings(**{**base, **change}), 7)
    assert plain.validation == other.validation
    texts = Counter(json.dumps(c) for c in plain.train)
    turned = Counter(json.dumps(c) for c in other.train)
    assert 10 < (turned - texts).total() < len(plain.train)
    assert abs(len(other.train) - len(plain.train)) <= 2  # the gate may stop one
    answers = Counter(c["messages"][-1]["content"] for c in other.train)
    if "entity_swap" not in change:
        assert not answers - Counter(c["messages"][-1]["content"] for c in plain.train)


@pytest.mark.parametrize("name", ["made", "real"])
def test_pairs_have_the_fault_that_they_name(name: str, request: pytest.FixtureRequest) -> None:
    everything: Made = request.getfixturevalue(name)
    assert {pair["kind"] for pair in everything.pairs if pair["lang"] == "zh"} == {*FAULTS, "made_up"}
    for pair in [*everything.pairs, *everything.pairs_validation]:
        assert set(pair) == {"messages", "chosen", "rejected", "lang", "kind", "sources"}
        assert pair["messages"][-1]["role"] == "user" and pair["chosen"] != pair["rejected"] and pair["sources"]
        passages, chosen, rejected = passages_of(pair["messages"][-1]["content"]), pair["chosen"], pair["rejected"]
        refusal = NOT_FOUND[pair["lang"]]
        if pair["kind"] == "made_up":
            assert chosen == refusal and stands_in(value_of(rejected), passages[cited(rejected)[0]])
            continue
        (number,) = cited(chosen)
        assert stands_in(value_of(chosen), passages[number])
        if pair["kind"] == "other_value":
            assert cited(rejected) == [number] and not stands_in(value_of(rejected), passages[number])
        elif pair["kind"] == "wrong_citation":
            assert cited(rejected) != [number] and not stands_in(value_of(chosen), passages[cited(rejected)[0]])
            assert without_citations(rejected) == without_citations(chosen)
        elif pair["kind"] == "no_citation":
            assert cited(rejected) == [] and rejected == without_citations(chosen)
        else:
            assert pair["kind"] == "needless_refusal" and rejected == refusal


def test_pairs_are_in_no_two_splits_and_read_by_the_trainer(made: Made, tmp_path: Path) -> None:
    assert not HELD_OUT & {s["title"] for pair in made.pairs for s in pair["sources"]}
    assert {s["title"] for pair in made.pairs_validation for s in pair["sources"]} <= HELD_OUT and made.pairs_validation
    settings = InstructSettings(pairs=Share(weight=2, maximum=200))
    folder = tmp_path / "out"
    manifest = build_conversations(corpus_folder(tmp_path, countries()), folder, settings=settings, seed=7)
    assert manifest["pairs"] == {"train": len(made.pairs), "validation": len(made.pairs_validation)}
    read = list(read_pairs(folder))
    assert [p.chosen for p in read if p.split == "train"] == [pair["chosen"] for pair in made.pairs]
    assert {p.split for p in read} == {"train", "en", "zh"}
    none = build_conversations(
        tmp_path / "corpus", folder, settings=InstructSettings(pairs=Share(weight=0, maximum=0)), seed=7
    )
    assert none["pairs"] == {"train": 0, "validation": 0} and not (folder / "pairs.jsonl").exists()


def test_the_command_shows_what_was_made(tmp_path: Path) -> None:
    corpus = corpus_folder(tmp_path, countries())
    command = [sys.executable, "-m", "wikigpt", "instruct", corpus, "-o", tmp_path / "out"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    counts = json.loads((tmp_path / "out/instruct.json").read_text(encoding="utf-8"))["languages"]
    rows = [line.split()[-3:] for line in shown.splitlines()]
    for part in ("train", "validation", "questions", "pairs"):
        for kind in {kind for lang in counts for kind in counts[lang][part]}:
            assert [kind, *(f"{counts[lang][part].get(kind, 0):,}" for lang in counts)] in rows
    silent = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True).stdout
    assert silent == ""
