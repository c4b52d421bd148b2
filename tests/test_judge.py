"""The judge of correctness is judged here: what must pass, and what is near and must fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.chat.grounding import NOT_FOUND, Passage, cited, grounded_prompt, with_citation, without_citations
from wikigpt.evaluate.judge import contains, exact_match, extract_fact, f1, refused

RIGHT = [
    ("en", "The capital of France is **Paris**.", ["Paris"]),
    ("en", "The capital of France is **Paris** [1].", ["Paris"]),
    ("en", "Paris.", ["paris"]),
    ("en", "It is **the Netherlands**.", ["Netherlands"]),
    ("en", "It is **São Paulo**.", ["Sao Paulo"]),
    ("en", "**67413000** people live there.", ["67,413,000"]),
    ("en", "**67\u202f413\u202f000** people.", ["67,413,000"]),
    ("en", "About **about 1,200** m", ["1200"]),
    ("en", "It has **1.4 billion** people.", ["1,400,000,000"]),
    ("en", "**5.0**", ["5"]),
    ("en", "**German, French and Italian**", ["German, French, Italian"]),
    ("en", "They are **German** and **French**.", ["German, French"]),
    ("en", "born in **551 BCE**", ["551 BC"]),
    ("en", "in **AD 105**", ["105"]),
    ("en", "**vitamin A**", ["Vitamin A"]),
    ("en", "**O’Brien**", ["O'Brien"]),
    ("en", "**−39** degrees", ["-39"]),
    ("en", "**A**", ["A"]),
    ("en", "**+33**", ["33"]),
    ("en", "**°C**", ["℃"]),
    ("en", "**′**", ["′"]),
    ("zh", "法国的首都是**巴黎**[1]。", ["巴黎"]),
    ("zh", "法国的首都是**巴黎**【1】。", ["巴黎"]),
    ("zh", "英国的首都是**倫敦**。", ["伦敦"]),
    ("zh", "**１２３**", ["123"]),
    ("zh", "人口为**约1.4亿**", ["140,000,000"]),
    ("zh", "**1亿4000万**", ["140000000"]),
    ("zh", "**6.7万**人", ["67000"]),
    ("zh", "生于**1643年**", ["1643"]),
    ("zh", "**公元前551年**", ["前551年"]),
    ("zh", "**约旦**", ["约旦"]),
    ("zh", "**艾萨克 · 牛顿**", ["艾萨克·牛顿"]),
    ("zh", "**《红楼梦》**", ["红楼梦"]),
    ("zh", "**United States**", ["the United States"]),
]
WRONG = [
    ("en", "The capital of France is **Parisian**.", ["Paris"]),
    ("en", "The capital of France is Paris.", ["Paris"]),  # a sentence without bold is not the fact alone
    ("en", "**Paris** or **London**", ["Paris"]),  # hedging
    ("en", "**New York City**", ["New York"]),
    ("en", "**vitamin**", ["vitamin A"]),
    ("en", "**125**", ["12"]),
    ("en", "**12.5**", ["125"]),
    ("en", "**39**", ["-39"]),
    ("en", "**1.4 million**", ["1.4 billion"]),
    ("en", "**1990-2000**", ["1990"]),
    ("en", "**1990,2000**", ["19902000"]),
    ("en", "**551 BC**", ["551"]),
    ("en", "**Guinea-Bissau**", ["Guinea"]),
    ("en", "**South Korea**", ["North Korea"]),
    ("en", "**C++**", ["C"]),
    ("en", "**€**", ["$"]),
    ("en", "**Python 3.10**", ["Python 3.1"]),
    ("en", "", ["Paris"]),
    ("en", "****", [""]),
    ("en", "The capital is **Paris", ["Paris"]),  # cut off
    ("zh", "**旦**", ["约旦"]),
    ("zh", "**纽约**", ["纽"]),
    ("zh", "**东京都**", ["东京"]),
    ("zh", "**公元前551年**", ["551年"]),
    ("zh", "**6.7万**", ["6.7"]),
    ("zh", "**几内亚比绍**", ["几内亚"]),
    ("zh", "**が**", ["か"]),
    ("zh", "法国的首都是巴黎。", ["巴黎"]),
]


@pytest.mark.parametrize(("lang", "answer", "golds"), RIGHT)
def test_right_answers_pass(lang: str, answer: str, golds: list[str]) -> None:
    assert exact_match(answer, golds, lang)


@pytest.mark.parametrize(("lang", "answer", "golds"), WRONG)
def test_near_misses_fail(lang: str, answer: str, golds: list[str]) -> None:
    assert not exact_match(answer, golds, lang)


@pytest.mark.parametrize(
    ("lang", "answer", "gold", "expected"),
    [
        ("en", "The population of Perth is about 2.4 million.", "2.4 million", True),
        ("en", "Its capital, Paris, lies on the Seine [2].", "Paris", True),
        ("en", "He is a Parisian.", "Paris", False),
        ("en", "There are 125 moons.", "12", False),
        ("en", "There are 12 moons.", "12", True),
        ("en", "There are 12, or so.", "12", True),
        ("en", "It is 12.5 km.", "12", False),
        ("en", "It is 12.5 km.", "5", False),
        ("en", "It ended in 12. Then", "12", True),
        ("en", "It is -39 °C.", "39", False),
        ("en", "See this [12].", "12", False),
        ("en", "It has 1,234,567 people", "234", False),
        ("en", "It has 1,234,567 people", "1234567", True),
        ("en", "He was born in 1643.", "1643", True),
        ("en", "the fifth-largest country in the **United States**", "the United States", True),
        ("en", "The symbol is Cu.", "C", False),
        ("en", "anything", "", False),
        ("zh", "巴黎是法国的首都。", "巴黎", True),
        ("zh", "倫敦是英國的首都。", "伦敦", True),
        ("zh", "每队12人上场。", "12", True),
        ("zh", "每队125人上场。", "12", False),
        ("zh", "人口约12万。", "12", False),
        ("zh", "人口约12万。", "120,000", True),
        ("zh", "元素符号是He。", "H", False),
        ("zh", "元素符号是H。", "H", True),
        ("zh", "艾萨克 牛顿发现了它", "艾萨克·牛顿", True),
    ],
)
def test_contains_respects_words_and_numbers(lang: str, answer: str, gold: str, expected: bool) -> None:
    assert contains(answer, [gold], lang) is expected


def test_extract_fact() -> None:
    assert extract_fact("The capital is **Paris** [1].") == "Paris"
    assert extract_fact("法国的首都是**巴黎**[1][2]。") == "巴黎"
    assert extract_fact("  No bold here [3]. ") == "No bold here."
    assert extract_fact("**A** and **A**") == "A"


def test_f1() -> None:
    assert f1("**Paris**", ["Paris"], "en") == 1.0
    assert f1("**New York City**", ["New York"], "en") == pytest.approx(0.8)
    assert f1("**巴黎市**", ["巴黎"], "zh") == pytest.approx(0.8)
    assert f1("**London**", ["Paris"], "en") == 0.0
    assert f1("", ["Paris"], "en") == 0.0


def test_refusals_are_known() -> None:
    for lang, sentence in NOT_FOUND.items():
        assert refused(sentence, lang)
        assert not refused("The capital is **Paris**. 首都是巴黎。", lang)
    assert not refused("", "en")


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30), st.sampled_from(["en", "zh"]))
def test_a_fact_matches_itself_in_a_sentence(fact: str, lang: str) -> None:
    assert exact_match(f"It is **{fact}** [1].", [fact], lang)
    assert contains(f"It is **{fact}** [1].", [fact], lang)


@given(st.integers(0, 10**12), st.sampled_from(["en", "zh"]))
def test_thousands_separators_do_not_matter(number: int, lang: str) -> None:
    assert exact_match(f"**{number:,}**", [str(number)], lang)
    assert contains(f"It is {number:,}.", [str(number)], lang)
    assert not exact_match(f"**{number:,}**", [str(number + 1)], lang)


def test_the_grounded_prompt() -> None:
    passages = [
        Passage("法国", "法国是一个国家[3]。\n\n## 地理\n在欧洲\n- 首都：巴黎"),
        Passage("Peru", "Peru is in America.\ncapital: Lima"),
    ]
    assert grounded_prompt("法国的首都是哪里？", passages[:1], "zh") == (
        "[1] 法国：法国是一个国家。地理；在欧洲；首都：巴黎\n\n法国的首都是哪里？"
    )
    assert grounded_prompt("What?", [*passages[1:], *passages[1:]], "en") == (
        "[1] Peru: Peru is in America. capital: Lima\n[2] Peru: Peru is in America. capital: Lima\n\nWhat?"
    )
    infoboxes = [
        Passage("Niger (river)", "length km: 4,200\nmouth: Gulf of Guinea", facts=True),
        Passage("Andes", "height m: 6,961", facts=True),
    ]
    assert grounded_prompt("What?", infoboxes, "en") == (
        "[1] Niger (river): Niger's length km: 4,200; Niger's mouth: Gulf of Guinea\n"
        "[2] Andes: Andes' height m: 6,961\n\nWhat?"
    )
    assert grounded_prompt("？", [Passage("法国", "首都：巴黎\n最高的山：勃朗峰", facts=True)], "zh") == (
        "[1] 法国：法国的首都：巴黎；法国最高的山：勃朗峰\n\n？"
    )
    assert grounded_prompt("What?", [], "en") == "What?"


def test_citations() -> None:
    assert cited("A [2], B[1][2] and 【3】.") == [2, 1, 3]
    assert cited("［１２］") == [12]
    assert cited("a[b] [1234] []") == []
    assert with_citation("The capital is **Paris**.", 2, "en") == "The capital is **Paris** [2]."
    assert with_citation("首都是**巴黎**。", 1, "zh") == "首都是**巴黎**[1]。"
    assert with_citation("Paris", 1, "en") == "Paris [1]"
    assert without_citations(with_citation("It is **Paris**.", 1, "en")) == "It is **Paris**."
