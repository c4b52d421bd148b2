"""Sentence splitting for Chinese and English."""

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


@given(st.text(st.sampled_from('ab AB.!?。！？"”」（）()1\n等'), max_size=60), st.sampled_from(["zh", "en"]))
def test_nothing_is_lost(text: str, lang: str) -> None:
    assert "".join("".join(split_sentences(text, lang)).split()) == "".join(text.split())
