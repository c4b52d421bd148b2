"""Sentence splitting for Chinese and English."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.corpus import split_sentences


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("zh", "法国在欧洲。首都是巴黎！是吗？", ["法国在欧洲。", "首都是巴黎！", "是吗？"]),
        ("zh", "他说：“走吧！”然后走了。她问：「为什么？」", ["他说：“走吧！”", "然后走了。", "她问：「为什么？」"]),
        ("zh", "“走吧。”他走了。", ["“走吧。”", "他走了。"]),
        (
            "zh",
            "圆周率约为3.14。《诗经》（见下。又名诗。）很古老。",
            ["圆周率约为3.14。", "《诗经》（见下。又名诗。）很古老。"],
        ),
        ("zh", "Yahoo!奇摩是网站。A?B", ["Yahoo!奇摩是网站。", "A?B"]),
        ("zh", "第一行\n- 列表项\n\n## 标题", ["第一行", "- 列表项", "## 标题"]),
        ("zh", "省略……还有。完", ["省略……还有。", "完"]),
        ("zh", "没有标点", ["没有标点"]),
        ("ja", "東京は首都である。人口は多い。", ["東京は首都である。", "人口は多い。"]),
        ("en", "It is big. It is old! Is it?", ["It is big.", "It is old!", "Is it?"]),
        (
            "en",
            "Dr. Smith met Mr. J. R. R. Tolkien. They spoke.",
            ["Dr. Smith met Mr. J. R. R. Tolkien.", "They spoke."],
        ),
        (
            "en",
            "Pi is 3.14. The U.S. is large, e.g. Texas. OK.",
            ["Pi is 3.14.", "The U.S. is large, e.g. Texas.", "OK."],
        ),
        ("en", 'He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("en", "He lived in the U.S. The house was old.", ["He lived in the U.S.", "The house was old."]),
        (
            "en",
            "See No. 5 and vol. 3. It works at 5 p.m. on Jan. 5.",
            ["See No. 5 and vol. 3.", "It works at 5 p.m. on Jan. 5."],
        ),
        (
            "en",
            "Is it Yahoo! or not? (Yes.) It ended in 1900. Then came 1901.",
            ["Is it Yahoo! or not?", "(Yes.)", "It ended in 1900.", "Then came 1901."],
        ),
        (
            "en",
            "Apples, pears, etc. were sold. St. John's is a city.",
            ["Apples, pears, etc. were sold.", "St. John's is a city."],
        ),
        ("en", "Hydrogen is element H. It is light.", ["Hydrogen is element H.", "It is light."]),
        ("en", "", []),
        ("de", "Das ist z.B. gut. Und das auch.", ["Das ist z.B. gut.", "Und das auch."]),
    ],
)
def test_examples(lang: str, text: str, expected: list[str]) -> None:
    assert split_sentences(text, lang) == expected


# Sentences separated by | as they must come out; the text is the same without the bars.
CJK = [
    ("zh", "他问：“你来吗？我等你。”|她说：「不来！」|两人都笑了。"),
    ("zh", "老师说：“孔子说：‘学而时习之，不亦说乎？’你们懂吗？”|没有人回答。"),
    ("zh", "我看过《你好，之华！》和《谁？》两部电影。|前者更好。"),
    ("zh", "大家互相鼓励“加油！”然后跑起来。|“万岁！”的喊声传得很远。|这就是“为什么？”一词的来历。"),
    ("zh", "他在信中写道「我會回來。」等語，但是沒有回來。"),
    ("zh", "他想……也许不去了……最后还是去了。|真的……。|她走了。"),
    ("zh", "天气很好；我们去公园，划船、吃饭；天黑才回家。|第二天下雨。"),
    ("zh", "水的密度是1.00克每立方厘米，圆周率是3.14。|网站www.example.com在2003年开通。|它属于example.org。"),
    ("zh", "Yahoo!奇摩和Mnet的M! Countdown都是节目。|完！"),
    ("zh", "什么？！|你再说一遍？|不……不可能！！！|他走了。"),
    ("zh", "《诗经》（又称《诗》。收诗305篇。）是最早的诗集。|（本章完。）|下一章开始。"),
    ("zh", "他说：“各项检测显示，他们太累了！ ”|其他人没有说话。"),
    ("zh", "“一。”。|二。"),
    ("zh", "作者约翰. 史密斯是英国人。|他住在伦敦。"),
    ("zh", "本行没有句号. |只有点. |完"),
    ("zh", "This line is in English. |It has two sentences."),
    ("zh", "Python 3.11 于2022年发布。|It is fast. 他说。"),
    ("zh-hant", "「不要！」|她說。|「為什麼？」|他問。"),
    ("ja", "「行こう。」と彼は言った。|雨が降っていた。|本当？|はい！"),
    ("zh", "句子没有标点也不会丢"),
]
LATIN = [
    ("en", "It starts c. 1368 and ends ca. 1400 (b. 1320, d. 1399). |Then came others."),
    ("en", "Mr. J. R. R. Tolkien and Mrs. E. Smith live in St. Louis, cf. Fig. 5 and No. 7. |They met Dr. No."),
    ("en", "Real vs. Barcelona ended 3–1. |The U.S. Army won, i.e. Texas did. |He left the U.S. |The house stayed."),
    ("en", "Visit www.example.com or example.org. |Use file.txt, v1.2.3 and 3.14. |Done."),
    ("en", 'She asked, "Why?" |"Because," he said, "it works." |(It did.) |“Really?!” |Yes...'),
    ("en", "He waited ... and left. |What? |No! |It costs $5.00. |Ok"),
    ("en", "Founded by Acme Inc. |In 1990 it moved to Washington, D.C. |The end came at 5 p.m. on Jan. 5, 2001."),
    ("en", "Apollo 4. |Based on it, Apollo 5 flew."),
    ("de", "Am 5. Mai kam Friedrich VI. Graf von X, z. B. nach Köln. |Es war 1626. |Danach das 19. Jahrhundert."),
    ("de", "Das sind ca. 9,8 Mio. Euro bzw. Franken (vgl. Meier, Nr. 7). |Gut."),
    ("fr", "M. Dupont vit à Paris. |Il dit : « Oui. » |Elle part."),
    ("es", "El Sr. García vive aquí. |¿Quién es? |¡Hola!"),
    ("ru", "Он родился в Москве. |Она живёт там!"),
    ("hi", "यह एक वाक्य है। |यह दूसरा है।"),
]


@pytest.mark.parametrize(("lang", "marked"), CJK + LATIN)
def test_sentences(lang: str, marked: str) -> None:
    assert split_sentences(marked.replace("|", ""), lang) == [sentence.strip() for sentence in marked.split("|")]


def test_a_long_quotation_is_split_inside() -> None:
    sentence = "这是一个相当长的句子，里面什么也没有发生。"
    assert len(split_sentences(f"他写道：“{sentence * 3}”", "zh")) == 1
    assert len(split_sentences(f"他写道：“{sentence * 9}”", "zh")) == 9


@pytest.mark.parametrize("unit", ["甲。", "「", "」", "「！", "“！”", "(。", "…", "甲. ", "A. ", ". ", "Dr. ", "a b "])
@pytest.mark.parametrize("lang", ["zh", "de"])
def test_long_lines_take_linear_time(unit: str, lang: str) -> None:
    """A megabyte in one line: quadratic behaviour would take minutes."""
    text = unit * (1_000_000 // len(unit.encode()))
    start = time.perf_counter()
    pieces = split_sentences(text, lang)
    assert time.perf_counter() - start < 5
    assert sum(map(len, pieces)) == len("".join(pieces)) > 0


_TRICKY = st.text(st.sampled_from('ab AB.!?。！？；…"”“「」『』《》（）()1\n等的c. z.B'), max_size=80)


@given(_TRICKY, st.sampled_from(["zh", "en", "de", "ja"]))
def test_nothing_is_lost(text: str, lang: str) -> None:
    pieces = split_sentences(text, lang)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece == piece.strip() != "" for piece in pieces)


@given(_TRICKY, st.sampled_from(["zh", "en"]))
def test_a_line_break_always_ends_a_sentence(text: str, lang: str) -> None:
    lines = text.split("\n")
    assert split_sentences(text, lang) == [piece for line in lines for piece in split_sentences(line, lang)]
