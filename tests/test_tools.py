"""Reckoning that a model asks for: right, bounded, and harmless whatever it asks."""

import datetime
import difflib
import json
import math
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.chat.tools import MOST_CHARACTERS, ToolError, ToolUse, calculate, call_text, called, response_text
from wikigpt.instruct.gate import reason_against, value_of
from wikigpt.instruct.reckoning import reckonings
from wikigpt.instruct.relations import read_toml


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12 * 7", "84"),
        ("12 × 7 − 4", "80"),
        ("1,200 / 8", "150"),
        ("0.1 + 0.2", "0.3"),
        ("2^10", "1024"),
        ("7 // 2 + 7 % 2", "4"),
        ("sqrt(2)", "1.41421356237"),
        ("round(10 / 3, 2)", "3.33"),
        ("-(3 + 4) * 2", "-14"),
        ("max(3, 9, 4)", "9"),
        ("（1 + 2）× 3", "9"),
        ("days('1 March 2000', '5 May 2010')", "3717"),
        ("days('2000-03-01', '2000-02-28')", "-2"),
        ("days('2000年3月1日', '2001年3月1日')", "365"),
        ("years('14 March 1879', '18 April 1955')", "76"),
        ("weekday('20 July 1969')", "Sunday"),
        ("weekday('1969年7月20日')", "星期日"),
        ("add_days('28 February 2024', 2)", "1 March 2024"),
        ("add_days('2023年12月31日', 1)", "2024年1月1日"),
    ],
)
def test_results(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("1 / 0", "division by zero"),
        ("2 +", "no expression"),
        ("", "."),
        ("9 ** 9 ** 9", "too large"),
        ("(9 ** 999) ** 999", "too large"),
        ("10 ** 100", "more than 60 digits"),
        ("1" * (MOST_CHARACTERS + 1), "characters"),
        ("'a' * 100000", "no number"),
        ("__import__('os')", "."),
        ("(1).__class__", "."),
        ("[1 for x in y]", "."),
        ("lambda: 1", "."),
        ("x = 3", "."),
        ("open('/etc/passwd')", "."),
        ("unknown", "."),
        ("sqrt('2')", "no number"),
        ("sqrt(-1)", "."),
        ("exp(10000)", "."),
        ("True + 1", "no number"),
        ("days('March 2000', '5 May 2010')", "no whole date"),
        ("days(3, 4)", "no date"),
        ("weekday('31 February 2000')", "no date"),
        ("weekday('2000-13-01')", "no date"),
        ("add_days('1 March 2000', 10 ** 12)", "."),
        ("(" * 190, "."),
    ],
)
def test_nonsense_and_mischief_are_refused(expression: str, complaint: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ToolError, match=complaint):
        calculate(expression)
    assert time.perf_counter() - began < 1


@settings(deadline=2000)
@given(st.text(alphabet="0123456789+-*/%()., abcdefsqrtdaysmx'^×年月日", max_size=80))
def test_anything_ends_in_a_text_or_a_refusal(expression: str) -> None:
    try:
        assert isinstance(calculate(expression), str)
    except ToolError as error:
        assert str(error)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_whole_numbers_are_exact(a: int, b: int) -> None:
    assert calculate(f"({a}) * ({b}) + ({a})") == str(a * b + a)


@given(st.dates(datetime.date(1000, 1, 1)), st.integers(-100_000, 100_000))
def test_days_there_and_back(day: datetime.date, days: int) -> None:
    try:
        then = day + datetime.timedelta(days=days)
    except OverflowError:
        return
    if then.year >= 1000:
        assert calculate(f"days('{day}', '{then}')") == str(days)
        assert calculate(f"days('{day}', '{calculate(f'''add_days('{day}', {days})''')}')") == str(days)


def test_calls_are_read_out_of_what_a_model_says() -> None:
    assert called(call_text("6 * 7")) == ToolUse("6 * 7", "42")
    assert called("Let me see.\n" + call_text("days('2000年3月1日', '2000年3月2日')")) == ToolUse(
        "days('2000年3月1日', '2000年3月2日')", "1"
    )
    assert called(call_text("1 / 0")) == ToolUse("1 / 0", "error: a division by zero", failed=True)
    assert called("6 * 7 is 42.") is None
    assert called("<tool_call>{nonsense}</tool_call>") is None
    assert called('<tool_call>{"name": "calculate", "arguments": [1]}</tool_call>') is None
    assert called('<tool_call>{"name": "calculate", "arguments": {"expression": 7}}</tool_call>') is None
    assert response_text(ToolUse("6 * 7", "42")) == "<tool_response>\n42\n</tool_response>"
    body = call_text('weekday("1 May 2000")').removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert json.loads(body)["name"] == "calculate"
    assert math.isclose(float(calculate("pi")), math.pi, rel_tol=1e-11)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_conversations_call_for_what_they_then_answer(lang: str) -> None:
    made = list(reckonings(lang, 240, Random(1), noise=0.2))
    assert len({m["messages"][0]["content"] for m in made}) > 230
    for one in made:
        asked, call, response, answer = (m["content"] for m in one["messages"])
        assert [m["role"] for m in one["messages"]] == ["user", "assistant"] * 2
        use = called(call)
        assert use and not use.failed and response == response_text(use)
        assert value_of(answer) == use.result
        assert "{" not in asked and reason_against(one) is None


def test_held_out_ways_to_ask_are_others() -> None:
    for kind in read_toml("reckoning.toml")["reckoning"]:
        for lang in ("en", "zh"):
            words = kind[lang]
            assert len(words["ask"]) >= 4 and len(words["heldout"]) >= 2, kind["name"]
            for heldout in words["heldout"]:
                ratio = max(difflib.SequenceMatcher(None, heldout, known).ratio() for known in words["ask"])
                assert ratio < 0.85, (heldout, ratio)
            for answer in words.get("answers", ()):
                assert answer.count("**{result}**") == 1
