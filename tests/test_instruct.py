"""Conversations and evaluation questions made from small corpora written here."""

import difflib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.chat.grounding import NOT_FOUND, cited
from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.evaluate.judge import exact_match, extract_fact
from wikigpt.instruct import InstructSettings, Made, Relation, Share, build_conversations, catalogue, make_conversations
from wikigpt.instruct.articles import absent_attributes
from wikigpt.instruct.relations import clean_value, read_toml
from wikigpt.instruct.talk import pick, sample
from wikigpt.instruct.wording import (
    bare,
    find_value,
    is_list,
    made_up_name,
    possessive,
    replace_value,
    running_name,
    sentence_case,
)

COUNTRIES = """France|Paris|Europe|euro|French|67 million|法国|巴黎|欧洲|欧元|法语|6700万
Japan|Tokyo|Asia|Japanese yen|Japanese|125 million|日本|东京|亚洲|日元|日语|1.25亿
Netherlands|Amsterdam|Europe|euro|Dutch|17 million|荷兰|阿姆斯特丹|欧洲|欧元|荷兰语|1700万
Canada|Ottawa|North America|Canadian dollar|English, French|38 million|加拿大|渥太华|北美洲|加拿大元|英语和法语|3800万
Kenya|Nairobi|Africa|Kenyan shilling|Swahili|53 million|肯尼亚|内罗毕|非洲|肯尼亚先令|斯瓦希里语|5300万
Egypt|Cairo|Africa|Egyptian pound|Arabic|104 million|埃及|开罗|非洲|埃及镑|阿拉伯语|1.04亿
Norway|Oslo|Europe|Norwegian krone|Norwegian|5.4 million|挪威|奥斯陆|欧洲|挪威克朗|挪威语|540万
Peru|Lima|South America|Peruvian sol|Spanish|33 million|秘鲁|利马|南美洲|秘鲁索尔|西班牙语|3300万
Chile|Santiago|South America|Chilean peso|Spanish|19 million|智利|圣地亚哥|南美洲|智利比索|西班牙语|1900万
"""
HELD_OUT = {"Peru", "秘鲁", "Chile", "智利"}


def countries() -> list[Document]:
    documents = []
    for number, line in enumerate(COUNTRIES.splitlines()):
        en, capital, continent, currency, language, people, zh, *han = line.split("|")
        the = "the " if en == "Netherlands" else ""
        split = "validation" if en in HELD_OUT else "train"
        documents.append(
            Document(
                id=f"e{number}",
                revision="1",
                url=f"https://en.example.org/{en}",
                title=en,
                text=f"{the.capitalize()}{en} is a country in {continent}. Its capital is {capital}, and people pay "
                f"with the {currency}.\n\n## Language\n\nThe official language of {the}{en} is {language}, and it is "
                "taught at every school of the country.\n\n## See also\n\n- Atlas",
                lang="en",
                categories=("Countries",),
                facts=(
                    ("capital", capital),
                    ("continent", continent),
                    ("currency", currency),
                    ("official_language", language),
                    ("population", people),
                ),
                langlinks=(("zh", zh),),
                split=split,
            )
        )
        keys = ("首都", "大洲", "货币", "官方语言", "人口")
        documents.append(
            Document(
                id=f"z{number}",
                revision="1",
                url=f"https://zh.example.org/{zh}",
                title=zh,
                text=f"{zh}是位于{han[1]}的国家，首都是{han[0]}，通用货币是{han[2]}。\n\n## 语言\n\n"
                f"{zh}的官方语言是{han[3]}，全国的学校都教这种语言，人人都会说一些。",
                lang="zh",
                categories=("国家",),
                facts=tuple(zip(keys, han, strict=True)),
                langlinks=(("en", en),),
                split=split,
            )
        )
    return documents


@pytest.fixture(scope="module")
def made() -> Made:
    return make_conversations(countries(), InstructSettings(), 7)


def of(made: Made, task: str, lang: str = "") -> list[dict[str, Any]]:
    return [c for c in made.train if c["task"] == task and lang in ("", c["lang"])]


def passages(prompt: str) -> tuple[dict[int, tuple[str, str]], str]:
    """Read a grounded prompt back: number -> (title, text), and the question."""
    body, _, question = prompt.rpartition("\n\n")
    lines = (re.fullmatch(r"\[(\d)\] (.+?)(?:：|: )(.+)", line) for line in body.splitlines())
    return {int(m[1]): (m[2], m[3]) for m in lines if m}, question


def test_every_relation_has_enough_phrasings_in_both_languages() -> None:
    for relation in catalogue().relations:
        for lang in ("en", "zh"):
            train = catalogue().questions(relation, lang, "train")
            assert len(train) >= 10, (relation.id, lang)
            assert len(catalogue().questions(relation, lang, "heldout")) >= 3, (relation.id, lang)
            assert len(relation.phrases(lang).answers) >= 3, (relation.id, lang)


def test_held_out_phrasings_are_really_different() -> None:
    subject = {"title": "Xyz", "name": "Xyz", "owner": "Xyz's"}
    for relation in [*catalogue().relations, *(absent.relation for absent in absent_attributes())]:
        for lang in ("en", "zh"):
            train = [bare(t.format(**subject)) for t in catalogue().questions(relation, lang, "train")]
            for heldout in catalogue().questions(relation, lang, "heldout"):
                text = bare(heldout.format(**subject))
                nearest = max(train, key=lambda known: difflib.SequenceMatcher(None, text, known).ratio())
                assert difflib.SequenceMatcher(None, text, nearest).ratio() < 0.85, (heldout, nearest)


def test_no_opening_and_closing_make_a_held_out_phrasing() -> None:
    for lang, noun in (("en", "the capital of Xyz"), ("zh", "Xyz的首都")):
        frames = catalogue().frames[lang]
        put_together = [bare(o + noun + c) for o in frames["openings"] for c in frames["closings"]]
        for heldout in frames["heldout"]:
            text = bare(heldout.format(np=noun, owner="Xyz's", noun="capital"))
            nearest = max(put_together, key=lambda known: difflib.SequenceMatcher(None, text, known).ratio())
            assert difflib.SequenceMatcher(None, text, nearest).ratio() < 0.85, (heldout, nearest)


def test_questions_drawn_for_training_are_of_all_sorts_and_those_held_out_are_listed() -> None:
    for lang in ("en", "zh"):
        capital = next(relation for relation in catalogue().relations if relation.id == "capital")
        rng, frames = Random(1), catalogue().frames[lang]
        drawn = [catalogue().question(capital, lang, "train", rng) for _ in range(2000)]
        own = sum(text in capital.phrases(lang).ask for text in drawn)
        listed = sum(text in catalogue().questions(capital, lang, "train") for text in drawn)
        assert 900 < own < 1100 and 1400 < listed < 1600
        assert len(set(drawn)) > 300
        put_together = [text for text in drawn if text.startswith(tuple(frames["openings"]))]
        assert all(text.endswith(tuple(frames["closings"])) for text in put_together) and len(put_together) > 400
        heldout = {catalogue().question(capital, lang, "heldout", rng) for _ in range(200)}
        assert heldout == set(catalogue().questions(capital, lang, "heldout"))


def test_templates_can_be_filled_and_answers_hold_the_value_alone_in_bold() -> None:
    fields = dict.fromkeys(("title", "name", "owner", "plain", "the", "unit", "noun", "is"), "x")
    for relation in catalogue().relations:
        for lang in ("en", "zh"):
            for answer in relation.phrases(lang).answers:
                assert answer.count("**{value}**") == 1 and answer.count("**") == 2, answer
                assert extract_fact(answer.format(value="V", **fields)) == "V"
                assert answer.endswith((".", "。", "**")), answer
            for question in (
                *catalogue().questions(relation, lang, "train"),
                *catalogue().questions(relation, lang, "heldout"),
                *relation.phrases(lang).inverse,
            ):
                assert "{" in question
                question.format(**fields, value="V")
                assert question.endswith(("。", "？") if lang == "zh" else (".", "?")), question


SAMPLE_ARTICLES = {
    # infobox keys of one article of each kind -> the relations they mean; same number of keys in both languages
    "capital continent currency official_language population area_km2 calling_code internet_tld country_code": (
        "首都 大洲 货币 官方语言 人口 面积 国际电话区号 互联网域名 国家代码"
    ),
    "country population timezone": "国家 人口 时区",
    "symbol atomic_number atomic_mass category state period discovery_year discoverer": (
        "元素符号 原子序数 原子量 元素类别 常温状态 周期 发现年份 发现者"
    ),
    "family script spoken_in iso_code": "语系 文字 主要使用地区 语言代码",
    "currency_code used_in currency_symbol": "货币代码 使用国家 货币符号",
    "order moons diameter_km orbital_period body_type": "距太阳顺序 卫星数 直径 公转周期 天体类型",
    "planet discoverer discovery_year": "所属行星 发现者 发现年份",
    "class diet habitat young": "纲 食性 栖息地 幼崽名称",
    "plant_family origin": "科 原产地",
    "inventor invention_year field": "发明者 发明年份 领域",
    "birth_year death_year nationality occupation known_for": "出生年份 逝世年份 国籍 职业 代表成就",
    "author publication_year genre": "作者 发表年份 体裁",
    "instrument_family origin": "乐器类别 起源地",
    "height_m location": "海拔 所在地",
    "length_km mouth": "长度 注入",
    "area_km2 location": "面积 所在地",
    "location built_year": "所在地 建成年份",
    "brightest_star": "最亮星",
    "quantity unit_symbol named_after": "物理量 单位符号 命名来源",
    "headquarters founded_year": "总部 成立年份",
    "players origin": "每队人数 起源地",
    "country month": "国家 月份",
    "country main_ingredient": "国家 主要原料",
}


def document(lang: str, facts: list[tuple[str, str]], text: str = "Nothing.", title: str = "Thing") -> Document:
    return Document("1", "1", "", title, text, lang, facts=tuple(facts))


def plausible(relation: str) -> str:
    kind = next(r.type for r in catalogue().relations if r.id == relation)
    return {"number": "12", "year": "1869", "code": "XY"}.get(kind, "Abcd")


@pytest.mark.parametrize(("en", "zh"), SAMPLE_ARTICLES.items())
def test_keys_of_the_sample_wiki_are_understood(en: str, zh: str) -> None:
    ids = en.split()
    for lang, keys in (("en", ids), ("zh", zh.split())):
        facts = [(key, plausible(relation)) for key, relation in zip(keys, ids, strict=True)]
        assert [fact.relation.id for fact in catalogue().facts(document(lang, facts))] == ids, lang


@pytest.mark.parametrize(
    ("lang", "key", "value", "relation", "expected"),
    [
        ("en", "birth_date", "14 March 1879 (aged 76)", "birth_year", "1879"),
        ("en", "born", "c. 287 BC", "birth_year", "287 BC"),
        ("en", "population_estimate", "67,413,000[2] (2020)", "population", "67,413,000"),
        ("en", "capital", "Paris", "capital", "Paris"),
        ("en", "currency", "Euro (€) (EUR)", "currency", "Euro"),
        ("en", "elevation_m", "8,849", "height_m", "8,849"),
        ("en", "established", "4 July 1776", "founded_year", "1776"),
        ("zh", "出生日期", "1879年3月14日（1879-03-14）", "birth_year", "1879年"),
        ("zh", "出生日期", "公元前551年9月28日", "birth_year", "公元前551年"),
        ("zh", "首都", "东京", "capital", "东京"),
        ("zh", "人口", "约 6700 万", "population", "约 6700 万"),
    ],
)
def test_keys_of_real_wikipedia(lang: str, key: str, value: str, relation: str, expected: str) -> None:
    facts = [("timezone" if lang == "en" else "时区", "UTC+1"), (key, value)]
    found = {fact.relation.id: fact.value for fact in catalogue().facts(document(lang, facts))}
    assert found.get(relation) == expected


@pytest.mark.parametrize(
    ("relation", "value"),
    [
        ("capital", "{{flag|France}}"),
        ("capital", "[[Paris]]"),
        ("capital", "Paris.svg"),
        ("capital", "12"),
        ("capital", "none"),
        ("capital", "a long remark about how the capital moved from one place to another"),
        ("population", "many"),
        ("population", "3:45"),
        ("birth_year", "unknown date"),
        ("calling_code", "see the article on telephone numbers"),
    ],
)
def test_values_that_are_no_facts_are_refused(relation: str, value: str) -> None:
    known = next(r for r in catalogue().relations if r.id == relation)
    assert clean_value(value, known, relation, "en") is None


def test_units_are_added_only_to_bare_numbers() -> None:
    height = next(r for r in catalogue().relations if r.id == "height_m")
    assert clean_value("8,849", height, "height_m", "en") == ("8,849", " metres")
    assert clean_value("8,849 m", height, "height_m", "en") == ("8,849 m", "")
    assert clean_value("29032", height, "height", "en") == ("29032", "")  # feet? nobody knows
    assert clean_value("8849", height, "海拔", "zh") == ("8849", "米")
    assert clean_value("8849米", height, "海拔", "zh") == ("8849米", "")


def test_the_same_key_means_different_things_in_different_articles() -> None:
    def variant(*keys: str) -> Relation:
        facts = [(key, plausible(key)) for key in ("country", *keys)]
        return catalogue().facts(document("en", facts))[0].relation

    festival, dish, city, other = variant("month"), variant("main_ingredient"), variant("population"), variant()
    assert len({r.variant for r in (festival, dish, city, other)}) == 4
    assert "celebrated" in festival.en.ask[0] and "dish" in dish.en.ask[2] and "in" in city.en.ask[0]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Netherlands", "The Netherlands is a country.", "the Netherlands"),
        ("Netherlands", "", "the Netherlands"),
        ("France", "France is a country. In France, people eat.", "France"),
        ("Lion", "The lion is a mammal. A lion eats meat.", "the lion"),
        ("Hydrogen", "Hydrogen is an element. Most hydrogen is in stars.", "hydrogen"),
        ("Isaac Newton", "Isaac Newton was a physicist.", "Isaac Newton"),
        ("Amazon River", "It flows far.", "the Amazon River"),
        ("Japanese yen", "The Japanese yen is a currency.", "the Japanese yen"),
        ("Paris", "The Paris Agreement was signed in Paris, and Paris is a city.", "Paris"),
        ("IPhone", "The iPhone is a telephone.", "the IPhone"),
        ("C++", "C++ is a language.", "C++"),
    ],
)
def test_names_in_running_text(name: str, text: str, expected: str) -> None:
    assert running_name(name, text, "en") == expected


def test_other_small_rules() -> None:
    assert possessive("France", "en") == "France's"
    assert possessive("the Netherlands", "en") == "the Netherlands'"
    assert sentence_case("the lion is big.") == "The lion is big."
    assert sentence_case("**euro** is used.") == "**Euro** is used."
    assert sentence_case("**fr** is the code.", bold=False) == "**fr** is the code."
    assert sentence_case("pH is a measure.") == "pH is a measure."
    assert is_list("German, French and Italian", "en") and is_list("德语、法语", "zh")
    assert not is_list("1,200,000", "zh") and not is_list("Indian Ocean", "en")


@pytest.mark.parametrize(
    ("value", "text", "count"),
    [
        ("Paris", "Paris is not Parisian; in Paris, Paris-Nord.", 2),
        ("12", "12 is not 125, not 3.12, not 12.5, not 1,12. But 12.", 2),
        ("euro", "Europe uses the euro.", 1),
        ("巴黎", "法国首都是巴黎，巴黎很大。", 2),
        ("12", "每队12人，共120人", 1),
        (".fr", "its domain is .fr.", 1),
        ("", "anything", 0),
    ],
)
def test_find_value_wants_whole_words(value: str, text: str, count: int) -> None:
    assert len(find_value(value, text)) == count


def test_replace_value() -> None:
    assert replace_value("Paris is not Parisian. Paris!", "Paris", "Rome") == "Rome is not Parisian. Rome!"


@given(st.lists(st.integers(), max_size=30), st.floats(0, 5), st.integers(0, 60), st.integers())
def test_a_sample_has_the_wanted_size_and_takes_all_once_before_any_twice(
    items: list[int], weight: float, maximum: int, seed: int
) -> None:
    numbered = list(enumerate(items))
    taken = sample(numbered, Share(weight=weight, maximum=maximum), Random(seed))
    assert len(taken) == (min(maximum, round(weight * len(items))) if items else 0)
    times = Counter(item for item, _ in taken)
    assert not times or max(times.values()) - min(times.get(item, 0) for item in numbered) <= 1
    assert len(set(taken)) == len(taken)


@given(st.integers(0, 40), st.integers())
def test_pick_uses_every_option_before_repeating(number: int, seed: int) -> None:
    picked = Counter(pick("abcdefg", number, Random(seed)))
    assert picked.total() == number
    assert not picked or max(picked.values()) - min(picked.get(c, 0) for c in "abcdefg") <= 1


def test_conversations_are_well_formed(made: Made) -> None:
    for c in [*made.train, *made.validation]:
        assert set(c) == {"messages", "task", "lang", "sources"}
        roles = [m["role"] for m in c["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        for m in c["messages"]:
            assert m["content"] == m["content"].strip() and m["content"]
            assert c["task"] == "reckoning" or not re.search(
                r"[{}]|  |的的|\bthe the\b|\ba a\b|(?<!。)。。(?!。)|(?<!\.)\.\.(?!\.)|None", m["content"]
            ), m["content"]
        for s in c["sources"]:
            assert set(s) == {"title", "id", "url", "revision"} and s["id"] and s["url"]


def test_all_kinds_are_made_in_both_languages(made: Made) -> None:
    kinds = {"fact", "definition", "identification", "grounded", "unanswerable", "follow_up", "section", "translation"}
    for lang in ("en", "zh"):
        assert kinds | {"cloze", "small_talk"} <= {c["task"] for c in made.train if c["lang"] == lang}
        assert {q["task"] for q in made.questions if q["lang"] == lang} == {"closed_book", "grounded", "unanswerable"}


def test_no_conversation_comes_from_a_held_out_article(made: Made) -> None:
    for c in made.train:
        assert not HELD_OUT & {s["title"] for s in c["sources"]}
        if c["task"] in ("fact", "grounded", "identification", "follow_up"):
            assert not any(title in m["content"] for title in HELD_OUT for m in c["messages"])


def test_core_facts_are_taught_in_many_phrasings(made: Made) -> None:
    asked: dict[tuple[str, str], set[str]] = {}
    for c in of(made, "fact"):
        fact = extract_fact(c["messages"][1]["content"])
        asked.setdefault((c["sources"][0]["title"], fact), set()).add(bare(c["messages"][0]["content"]))
    for title, fact in (("France", "Paris"), ("荷兰", "阿姆斯特丹"), ("Kenya", "Africa"), ("日本", "日元")):
        assert len(asked[title, fact]) >= 8
    answers = {c["messages"][1]["content"] for c in of(made, "fact", "en") if "Ottawa" in c["messages"][1]["content"]}
    assert len(answers) == 3


def test_questions_are_worded_as_no_conversation(made: Made) -> None:
    taught = {bare(m["content"]) for c in made.train for m in c["messages"] if m["role"] == "user"}
    for q in made.questions:
        assert bare(q["question"]) not in taught
        assert bool(q["answers"]) == (q["task"] != "unanswerable")
        assert (q["title"] in HELD_OUT) == (q["task"] == "grounded") or q["task"] == "unanswerable"
    core = [q for q in made.questions if q["core"]]
    assert len(core) == 2 * 7 * 3 and {q["relation"] for q in core} == {"capital", "continent", "currency"}
    assert len({(q["title"], q["relation"]) for q in core}) == len(core)


def test_answers_accept_other_forms(made: Made) -> None:
    by = {(q["title"], q["relation"]): q["answers"] for q in made.questions}
    assert exact_match("人口是**1.25亿**", by["日本", "population"], "zh")
    assert exact_match("**英语、法语**", by["加拿大", "official_language"], "zh")
    assert not exact_match("**英语**", by["加拿大", "official_language"], "zh")


def test_grounded_answers_stand_in_the_cited_passage(made: Made) -> None:
    truths = {(d.title, value) for d in countries() for _, value in d.facts}
    counterfactual = invented = 0
    places = Counter()
    for c in of(made, "grounded"):
        found, question = passages(c["messages"][0]["content"])
        answer = c["messages"][1]["content"]
        (number,) = cited(answer)
        title, text = found[number]
        value = extract_fact(answer)
        assert find_value(value, text), (value, text)
        assert title.lower() in question.lower(), (title, question)
        counterfactual += (c["sources"][0]["title"], value) not in truths
        invented += title != c["sources"][0]["title"]
        places[number] += 1
    total = len(of(made, "grounded"))
    assert 0.15 < counterfactual / total < 0.7 and 0.05 < invented / total < 0.5
    assert len(places) >= 3


def test_brief_answers_are_in_the_words_of_the_passage() -> None:
    chosen = InstructSettings(brief=0.5, grounded=Share(weight=4, maximum=500))
    turns = [[m["content"] for m in c["messages"]] for c in of(make_conversations(countries(), chosen, 1), "grounded")]
    brief = [(asked, match) for asked, told in turns if (match := re.fullmatch(r"(.+(?:: |：))\*\*(.+)\*\*.*", told))]
    assert 0.35 < len(brief) / len(turns) < 0.65
    literally = sum(f"{match[1]}{match[2]}" in asked for asked, match in brief)  # the others are read out of sentences
    assert literally > 0.3 * len(brief)


def test_a_counterfactual_value_leaves_no_trace_of_the_true_one() -> None:
    settings = InstructSettings(counterfactual=1, invented=0, max_passages=1, grounded=Share(weight=4, maximum=500))
    swapped = 0
    for c in of(make_conversations(countries(), settings, 1), "grounded"):
        title = c["sources"][0]["title"]
        document = next(d for d in countries() if d.title == title)
        value = extract_fact(c["messages"][1]["content"])
        if value in dict(document.facts).values():
            continue
        swapped += 1
        same_kind = [dict(d.facts) for d in countries() if d.lang == document.lang]
        key = next(k for k in same_kind[0] if any(facts[k] == value for facts in same_kind))
        passages, _, _ = c["messages"][0]["content"].rpartition("\n\n")
        assert not find_value(dict(document.facts)[key], passages)
    assert swapped > 20


def test_unanswerable_passages_do_not_hold_the_answer(made: Made) -> None:
    facts = {d.title: dict(d.facts) for d in countries()}
    for c in of(made, "unanswerable"):
        assert c["messages"][1]["content"] == NOT_FOUND[c["lang"]]
        found, question = passages(c["messages"][0]["content"])
        if not re.search("capital|首都", question, re.IGNORECASE):
            continue
        title = c["sources"][0]["title"]
        capital = facts[title]["capital" if c["lang"] == "en" else "首都"]
        assert all(capital not in text for t, text in found.values() if t == title)


def test_follow_ups_go_on_with_the_same_subject_or_relation(made: Made) -> None:
    facts = {d.title: set(dict(d.facts).values()) for d in countries()}
    for c in of(made, "follow_up"):
        assert len(c["messages"]) == 4
        last = c["sources"][-1]["title"]
        assert extract_fact(c["messages"][3]["content"]) in facts[last]
        if len(c["sources"]) == 1:
            assert last.lower() not in c["messages"][2]["content"].lower()  # the subject is left out


def test_identification_asks_only_where_one_article_fits(made: Made) -> None:
    for c in of(made, "identification"):
        question = c["messages"][0]["content"]
        assert "the euro" not in question and "欧元" not in question.replace("通用货币是欧元", "")
        assert c["sources"][0]["title"].lower() not in question.lower()
    titles = {extract_fact(c["messages"][1]["content"]) for c in of(made, "identification")}
    assert "France" in titles and "Netherlands" in titles


def test_the_netherlands_take_an_article(made: Made) -> None:
    answers = [m["content"] for c in made.train if c["lang"] == "en" for m in c["messages"] if m["role"] == "assistant"]
    named = [a for a in answers if "Netherlands" in a and "“Netherlands”" not in a]
    assert named and all(re.search(r"[Tt]he (\*\*)?Netherlands", a) for a in named)


def test_the_same_input_makes_the_same_in_any_order(made: Made) -> None:
    again = make_conversations(reversed(countries()), InstructSettings(), 7)
    assert again.train == made.train and again.questions == made.questions and again.validation == made.validation
    other = make_conversations(countries(), InstructSettings(), 8)
    assert other.train != made.train


def test_settings_are_obeyed() -> None:
    nothing = Share(weight=0, maximum=0)
    settings = InstructSettings(
        languages=["en"],
        core_relations=["population"],
        phrasings_per_fact=3,
        answer_forms=1,
        definition=nothing,
        grounded=Share(weight=9, maximum=5),
        small_talk=nothing,
        core_questions=4,
        unanswerable_questions=6,
    )
    made = make_conversations(countries(), settings, 0)
    tasks = Counter(c["task"] for c in made.train)
    assert {c["lang"] for c in made.train} == {"en"} and not tasks["definition"] and not tasks["small_talk"]
    assert tasks["grounded"] == 5
    core = [c for c in made.train if re.search(r"\*\*\d", c["messages"][1]["content"]) and c["task"] == "fact"]
    assert len(core) == 7 * 3
    assert all(c["messages"][1]["content"].startswith("The population of") for c in core)
    counts = Counter(q["task"] if not q["core"] else "core" for q in made.questions)
    assert counts["core"] == 4 and counts["unanswerable"] == 6


def test_max_core_leaves_out_whole_facts() -> None:
    made = make_conversations(
        countries(), InstructSettings(languages=["en"], max_core=40, other_fact=Share(weight=0, maximum=0)), 0
    )
    assert len(of(made, "fact")) == 40
    assert made.counts["en"]["core_facts"] == 5


def test_max_articles_keeps_those_with_infoboxes() -> None:
    bare_text = [Document(f"t{i}", "1", "", f"Thing {i}", f"Thing {i} is a thing.", "en") for i in range(50)]
    made = make_conversations([*bare_text, *countries()], InstructSettings(languages=["en"], max_articles=9), 0)
    assert made.counts["en"]["articles"] == {"train": 7, "validation": 2}


def test_infobox_keys_that_nobody_foresaw_are_asked_for() -> None:
    def article(number: int) -> Document:
        facts = (("patron_saint", f"Saint {chr(65 + number)}nna"), ("image", "x.svg"), ("hdi_rank", "3"))
        return Document(f"{number}", "1", "u", f"Town {number}", f"Town {number} is a town.", "en", facts=facts)

    made = make_conversations(map(article, range(8)), InstructSettings(), 0)
    answers = [c["messages"][1]["content"] for c in of(made, "fact")]
    assert any(a.startswith("The patron saint of Town") for a in answers)
    assert not any("image" in a or "rank" in a for a in answers)


ENGLISH_TEXT = """Ada Lovelace|Ada Lovelace (10 December 1815 – 27 November 1852) was a Welsh mathematician and writer.
Greenwich|Greenwich is a town in south-east London, England. It lies on the River Thames, not far from Blackheath.
Abacus|An abacus is a calculating tool that was used in Asia, Europe and Africa. It is still used by merchants.
Zurich Museum|The Zurich Museum is a museum of art. It was founded in 1887 by Anna Weber and opened by King Otto.
Gothic War|The Gothic War (376–382) was a war in the Balkans. It was fought between the Goths and the Roman Empire."""
CHINESE_TEXT = """沈括|沈括（1031年－1095年），字存中，北宋科学家。他著有《梦溪笔谈》。
都江堰|都江堰是位于四川省成都市的一座水利工程，至今仍在使用。它由李冰主持修建。
北京大学|北京大学是一所综合性大学，成立于1898年，位于北京市海淀区。"""


def test_corpora_without_infoboxes_work_too() -> None:
    lines = [("en", line) for line in ENGLISH_TEXT.splitlines()] + [("zh", line) for line in CHINESE_TEXT.splitlines()]
    documents = [
        Document(str(n), "1", "u", line.split("|")[0], line.split("|")[1], lang) for n, (lang, line) in enumerate(lines)
    ]
    settings = InstructSettings(other_fact=Share(weight=3, maximum=1000), cloze=Share(weight=5, maximum=1000))
    made = make_conversations(documents, settings, 0)
    facts = {(c["sources"][0]["title"], extract_fact(c["messages"][1]["content"])) for c in of(made, "fact")}
    assert {
        ("Ada Lovelace", "1815"),
        ("Ada Lovelace", "1852"),
        ("Ada Lovelace", "a Welsh mathematician and writer"),
        ("Abacus", "a calculating tool"),
        ("Zurich Museum", "1887"),
        ("沈括", "1031年"),
        ("沈括", "1095年"),
        ("都江堰", "水利工程"),
        ("北京大学", "1898年"),
    } <= facts
    assert not {title for title, value in facts if value in ("376", "382")}  # a war is not born
    assert of(made, "cloze", "en") and of(made, "definition", "zh") and of(made, "grounded", "zh")
    for c in of(made, "cloze"):
        found, question = passages(c["messages"][0]["content"])
        gap = extract_fact(c["messages"][1]["content"])
        sentence = re.sub(r"^[^:：？?]*[:：？?] ?", "", question)
        (number,) = cited(c["messages"][1]["content"])
        assert question.count("____") == 1 and sentence.replace("____", gap) in found[number][1]


def test_nobody_is_called_like_a_made_up_name() -> None:
    rng = Random(0)
    for lang in ("en", "zh"):
        names = {made_up_name(lang, rng) for _ in range(500)}
        assert len(names) > 450 and all(3 <= len(name) <= 20 for name in names)


def test_small_talk_is_complete() -> None:
    for talk in read_toml("smalltalk.toml")["talk"]:
        for lang in ("en", "zh"):
            assert len(talk[lang]["users"]) >= 4 and len(talk[lang]["replies"]) >= 2, talk["name"]
            assert all(bool(re.search(r"[\u4e00-\u9fff]", reply)) == (lang == "zh") for reply in talk[lang]["replies"])


def test_unknown_names_in_the_settings_are_explained() -> None:
    with pytest.raises(UserError, match=r"core_relations.*'capitol'.*capital"):
        make_conversations(countries(), InstructSettings(core_relations=["capitol"]), 0)
    with pytest.raises(UserError, match=r"languages.*'fr'"):
        make_conversations(countries(), InstructSettings(languages=["fr"]), 0)


def test_a_corpus_without_articles_in_the_languages_is_refused() -> None:
    with pytest.raises(UserError, match="no training article"):
        make_conversations([Document("1", "1", "", "Bonjour", "Un texte.", "fr")], InstructSettings(), 0)


def corpus_folder(tmp_path: Path, documents: list[Document]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [asdict(document) for document in documents]
    for row in rows:
        row["facts"] = [{"key": key, "value": value} for key, value in row["facts"]]
        row["langlinks"] = [{"lang": lang, "title": title} for lang, title in row["langlinks"]]
    folder = tmp_path / "corpus"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-00000.parquet")
    (folder / "corpus.json").write_text(json.dumps({"documents": len(documents)}))
    return folder


def test_the_folder_is_written_whole(tmp_path: Path) -> None:
    corpus = corpus_folder(tmp_path, countries())
    seen: list[tuple[int, int, str]] = []
    output = tmp_path / "conversations"
    manifest = build_conversations(
        corpus, output, settings=InstructSettings(), seed=7, progress=lambda *report: seen.append(report)
    )
    files = {
        "train.jsonl",
        "validation.jsonl",
        "questions.jsonl",
        "pairs.jsonl",
        "pairs-validation.jsonl",
        "instruct.json",
    }
    assert {path.name for path in output.iterdir()} == files
    train = [json.loads(line) for line in (output / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (
        len(train)
        == manifest["conversations"]["train"]
        == sum(n for lang in manifest["languages"].values() for n in lang["train"].values())
    )
    assert json.loads((output / "instruct.json").read_text(encoding="utf-8")) == manifest
    assert seen and seen[-1][:2] == (18, 18)
    first = (output / "train.jsonl").read_bytes()
    build_conversations(corpus, output, settings=InstructSettings(), seed=7)
    assert (output / "train.jsonl").read_bytes() == first


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    corpus = corpus_folder(tmp_path, countries())
    output = tmp_path / "photos"
    output.mkdir()
    (output / "cat.jpg").write_text("meow")
    with pytest.raises(UserError, match="already holds something else"):
        build_conversations(corpus, output, settings=InstructSettings(), seed=0)
    assert [path.name for path in output.iterdir()] == ["cat.jpg"]
    with pytest.raises(UserError, match="not a corpus"):
        build_conversations(tmp_path / "absent", tmp_path / "out", settings=InstructSettings(), seed=0)
    assert not (tmp_path / "out").exists()


def test_importing_the_package_is_cheap() -> None:
    modules = "sys, wikigpt.instruct, wikigpt.evaluate.judge"
    code = f"import {modules}; print(*{{'torch', 'pyarrow', 'opencc'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_wordings_for_search_hold_no_held_out_phrasing() -> None:
    for lang in ("en", "zh"):
        heldout = {q for r in catalogue().relations for q in catalogue().questions(r, lang, "heldout")}
        wordings = catalogue().wordings(lang)
        assert len(wordings) > 50
        assert not heldout & {text for _, texts, _ in wordings for text in texts}


def test_languages_without_phrasings_get_bare_conversations() -> None:
    text = "Бургас е град в Югоизточна България, на брега на Черно море. Той е важно пристанище."
    facts = (("население", "188 242"), ("държава", "България"))
    documents = [
        Document("1", "1", "u1", "Бургас", text, "bg", facts=facts),
        Document("2", "1", "u2", "Варна", text.replace("Бургас", "Варна"), "bg", facts=facts, split="validation"),
    ]
    made = make_conversations(documents, InstructSettings(), 0)
    said = {tuple(m["content"] for m in c["messages"]) for c in made.train}
    assert ("Бургас: население?", "**188 242**") in said
    assert ("Бургас?", "Бургас е град в Югоизточна България, на брега на Черно море.") in said
    assert not any("Варна" in question for question, _ in said)
    assert {(q["task"], q["title"]) for q in made.questions} == {("closed_book", "Бургас"), ("grounded", "Варна")}
    taught = {question for question, _ in said}
    assert not taught & {q["question"] for q in made.questions}
