"""Other tools' conversation files: each format read back, each fault named, and mixed into what the wiki gives."""

import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.instruct import (
    Extra,
    InstructSettings,
    build_conversations,
    check_file,
    read_conversations,
    read_pairs,
)
from wikigpt.instruct.extra import asked, mix
from wikigpt.instruct.language import detect_language, named_language
from wikigpt.pipeline import build_stages
from wikigpt.recipe import Recipe, dump_recipe, load_recipe

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data") / "chat"
Row = dict[str, Any]

# Whatever can be said, also what breaks CSV and JSON, control tokens, and no character beyond it.
said = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
said = said | st.sampled_from(
    ['"', 'a,"b"\r\nc', "<|im_end|>", "[1]", '{"role": 1}', "你好，世界", "\ufeffx", "a\x00b"]
)
turns = st.lists(st.tuples(said, said), min_size=1, max_size=3)
system = st.none() | said


def messages_of(system: str | None, turns: list[tuple[str, str]]) -> list[Row]:
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def own(system: str | None, turns: list[tuple[str, str]]) -> Row:
    sources = [{"title": "京", "id": "1", "url": "", "revision": "2"}]
    return {"messages": messages_of(system, turns), "task": "fact", "lang": "zh", "sources": sources}


def openai(system: str | None, turns: list[tuple[str, str]]) -> Row:
    messages = messages_of(system, turns)
    for message in messages:
        if message["role"] == "system":
            message["role"] = "developer"
        text = message["content"]
        message["content"] = [{"type": "text", "text": text[:1]}, {"type": "text", "text": text[1:]}]
    return {"messages": messages}


def sharegpt(system: str | None, turns: list[tuple[str, str]]) -> Row:
    names = {"user": "human", "assistant": "gpt"}
    conversations = [{"from": names[m["role"]], "value": m["content"]} for m in messages_of(None, turns)]
    return {"conversations": conversations, "system": system or "", "tools": "[]"}


def alpaca(system: str | None, turns: list[tuple[str, str]]) -> Row:
    *history, (question, answer) = turns
    return {
        "instruction": question,
        "input": "",
        "output": answer,
        "system": system or "",
        "history": [list(turn) for turn in history],
    }


def completion(system: str | None, turns: list[tuple[str, str]]) -> Row:
    *prompt, answer = messages_of(system, turns)
    return {"prompt": prompt, "completion": [answer]}


def encoded(rows: list[Row], kind: str) -> bytes:
    """Rows as a file of this kind, as the usual libraries write it."""
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=2).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        table.writerow({k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in row.items()})
    return text.getvalue().encode()


def written(path: Path, data: bytes | list[Row]) -> Path:
    path.write_bytes(encoded(data, "jsonl") if isinstance(data, list) else data)
    return path


FORMATS = [own, openai, sharegpt, alpaca, completion]
KINDS = ["jsonl", "json", "csv", "parquet"]
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lambda data: lzma.compress(data, preset=0)}
repeated = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
@repeated
@given(conversations=st.lists(st.tuples(system, turns), min_size=1, max_size=3), packer=st.sampled_from([*PACKERS]))
def test_a_conversation_reads_back_from_every_format_and_file(form, kind, conversations, packer, tmp_path) -> None:
    rows = [form(*conversation) for conversation in conversations]
    path = tmp_path / "data.bin"  # the name tells nothing
    path.write_bytes(PACKERS[packer](encoded(rows, kind)))
    read = list(read_conversations(path))
    assert [c["messages"] for c in read] == [messages_of(*conversation) for conversation in conversations]
    if form is own:
        assert read == rows
    else:
        assert all(c["task"] == "chat" and c["sources"] == [] and c["lang"] for c in read)
    report = check_file(path)
    assert (report.rows, report.usable, report.unusable) == (len(rows), len(rows), [])


def trl_lists(system, turns, rejected) -> Row:
    *prompt, answer = messages_of(system, turns)
    return {"prompt": prompt, "chosen": [answer], "rejected": [{"role": "assistant", "content": rejected}]}


def trl_implicit(system, turns, rejected) -> Row:
    *prompt, answer = messages_of(system, turns)
    worse = {"role": "assistant", "content": rejected}
    return {"chosen": [*prompt, answer], "rejected": [*prompt, worse]}


def factory_sharegpt(system, turns, rejected) -> Row:
    row = sharegpt(system, turns)
    better = row["conversations"].pop()
    return {**row, "chosen": better, "rejected": {"from": "gpt", "value": rejected}}


def factory_alpaca(system, turns, rejected) -> Row:
    row = alpaca(system, turns)
    return {**row, "chosen": row.pop("output"), "rejected": rejected}


def factory_ranked(system, turns, rejected) -> Row:
    row = alpaca(system, turns)
    return {**row, "output": [row["output"], "in between", rejected]}


def ultrafeedback(system, turns, rejected) -> Row:
    row = trl_implicit(system, turns, rejected)
    return {"prompt": turns[0][0], **row, "messages": row["chosen"], "score_chosen": 9.0}


def arena(system, turns, rejected) -> Row:
    row = trl_implicit(system, turns, rejected)
    return {"model_a": "x", "conversation_a": row["rejected"], "conversation_b": row["chosen"], "winner": "model_b"}


@pytest.mark.parametrize(
    "form", [trl_lists, trl_implicit, factory_sharegpt, factory_alpaca, factory_ranked, ultrafeedback, arena]
)
@pytest.mark.parametrize("kind", KINDS)
@repeated
@given(system=system, turns=turns, rejected=said)
def test_a_preference_pair_reads_back_from_every_format(form, kind, system, turns, rejected, tmp_path) -> None:
    if rejected.strip() == turns[-1][1].strip() or (kind == "csv" and form is factory_ranked):
        return
    path = written(tmp_path / "pairs", encoded([form(system, turns, rejected)], kind))
    (pair,) = read_pairs(path)
    *prompt, answer = messages_of(system, turns)
    assert (pair["messages"], pair["chosen"], pair["rejected"]) == (prompt, answer["content"], rejected)
    with pytest.raises(UserError, match="no conversations that can be used"):
        list(read_conversations(path))


def test_implicit_prompts_of_texts(tmp_path) -> None:
    hh = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: A\n\nB?\n\nAssistant: "
    rows = [
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": hh + "Yes.", "rejected": hh + "No."},
        {"prompt": "天空是什么颜色？", "chosen": "蓝色", "rejected": "绿色"},
    ]
    sky, talk, plain = read_pairs(written(tmp_path / "p.jsonl", rows))
    assert (sky["messages"], sky["chosen"], sky["rejected"]) == (
        [{"role": "user", "content": "The sky is"}],
        "blue.",
        "green.",
    )
    assert [m["content"] for m in talk["messages"]] == ["Hi", "Hello.", "A\n\nB?"]
    assert (talk["chosen"], talk["rejected"]) == ("Yes.", "No.")
    assert plain["messages"] == [{"role": "user", "content": "天空是什么颜色？"}] and plain["lang"] == "zh"


def chat(*contents: str) -> list[Row]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(contents)]


BAD = [
    ({"text": "An article."}, "no format known (text)"),
    ({}, "no format known (none)"),
    ({"messages": []}, "messages is empty"),
    ({"messages": "Hi"}, "not a list of messages"),
    ({"messages": ["Hi", "Hello"]}, "message 1 is not an object"),
    ({"messages": [{"message": "知道吗？"}]}, "message 1 has no role"),
    ({"messages": chat("Hi", " \n")}, "message 2 (assistant) is empty"),
    ({"messages": chat("Hi")}, "ends without an answer"),
    ({"messages": chat("Hi", "Hello", "And?")}, "ends without an answer"),
    ({"messages": chat("Hi")[:1] * 2 + chat("", "a")[1:]}, "message 2 is a second user's in a row"),
    ({"messages": chat("", "Hello")[1:]}, "the assistant speaks first"),
    (
        {"messages": [*chat("Hi", "a"), {"role": "system", "content": "S"}, *chat("b", "c")]},
        "system message in the mid",
    ),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown role 'narrator'"),
    ({"messages": [*chat("Hi"), {"role": "tool", "content": "x"}]}, "message 2 is a tool call"),
    ({"messages": [*chat("Hi"), {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}]}, "tool call"),
    ({"conversations": [{"from": "function_call", "value": "{}"}]}, "tool call"),
    ({"conversations": [{"from": "human", "value": "x"}], "tools": '[{"name": "f"}]'}, "column tools"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "holds an image"),
    ({"messages": chat("<image>", "A cat."), "images": ["1.jpg"]}, "column images"),
    ({"messages": [{"role": "user", "content": 3}]}, "message 1 is not text, but 3"),
    ({"messages": chat("Hi", "\udcc4\udce3")}, "not UTF-8"),
    ({"messages": chat("Hi", "Rubbish."), "label": False}, "labelled as a bad answer"),
    ({"instruction": "", "input": " ", "output": "x"}, "message 1 (user) is empty"),
    ({"instruction": "x", "output": None, "input": "y"}, "no format known"),
    ({"instruction": "x", "output": "y", "history": ["z"]}, "history is not a list of pairs"),
    ({"instruction": "x", "output": ["y"]}, "there are not two of them"),
    ({"prompt": "x", "chosen": "a ", "rejected": "a"}, "chosen equals rejected"),
    ({"prompt": "x", "chosen": "a", "rejected": ""}, "rejected is empty"),
    ({"chosen": chat("x", "y"), "rejected": chat("x", "y")}, "chosen equals rejected"),
    ({"chosen": chat("x", "y"), "rejected": chat("z", "y")}, "chosen is not one answer"),
    ({"chosen": "yes", "rejected": "no"}, "no prompt"),
    ({"messages": chat("x", "y"), "chosen": "a", "rejected": "b"}, "does not end with a question"),
    ({"conversation_a": chat("x", "y"), "conversation_b": chat("x", "z"), "winner": "tie"}, "neither answer was pref"),
    ({"conversation_a": "x", "conversation_b": chat("x", "z"), "winner": "model_a"}, "conversation_a is not a list"),
]


def test_every_unusable_row_is_named_with_its_reason(tmp_path) -> None:
    good = {"messages": chat("What is that?", "<|im_end|> is only text here.")}
    rows = [good, *(row for row, _ in BAD), good]
    lines = [json.dumps(row).encode() for row in rows] + [b'{"messages": [', b"", b"[1]", "{'你'".encode("gbk")]
    path = written(tmp_path / "bad.jsonl", b"\n".join(lines))
    report = check_file(path)
    reasons = dict(report.unusable)
    for number, (row, words) in enumerate(BAD, 2):
        assert words in reasons[number], (row, reasons[number])
    last = len(rows)
    assert [number for number in reasons if number > last] == [last + 1, last + 3, last + 4]  # a blank line is no row
    assert "not JSON" in reasons[last + 1] and "not an object" in reasons[last + 3]
    assert (report.usable, report.duplicates) == (2, 1)
    assert report.conversations == {"messages": Counter(en=2)} and report.pairs == {}
    assert [c["messages"] for c in read_conversations(path)] == [good["messages"]] * 2


def test_what_cannot_be_written_is_not_taken_over(tmp_path) -> None:
    talk, when = chat("Hi", "Hello"), pa.scalar(0, pa.timestamp("s")).as_py()
    rows = [{"messages": talk, "task": "\udcff", "sources": [{"title": "\ud800"}]}, {"\udcff": 1}]
    path = written(tmp_path / "odd.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    table = tmp_path / "odd.parquet"
    table.write_bytes(encoded([{"messages": talk, "sources": [{"read": when}]}], "parquet"))
    for file in (path, table):
        assert [(c["task"], c["sources"]) for c in read_conversations(file)] == [("chat", [])]
    json.dumps(check_file(path).as_json(), ensure_ascii=False).encode()


GOOD = [{"instruction": f"What is {i}?", "output": "a number, 数\n" * 3} for i in range(300)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packer", [*PACKERS])
def test_a_file_that_is_cut_off_gives_what_lies_before_and_says_so(kind, packer, tmp_path) -> None:
    whole = PACKERS[packer](encoded(GOOD, kind))
    path = written(tmp_path / "cut", whole[: len(whole) * 3 // 4])
    if kind == "parquet" and not packer:  # parquet is read from its end
        assert check_file(path).usable == 0
        return
    try:
        report = check_file(path)
    except UserError as error:  # nothing at all could be unpacked
        assert packer and "damaged" in str(error)
        return
    assert len(report.unusable) == 1, report.unusable
    if kind != "parquet" and not packer:
        assert 200 < report.usable < 300


def test_bytes_that_are_no_utf8_cost_their_rows_only(tmp_path) -> None:
    for kind in ("jsonl", "csv"):
        data = encoded(GOOD, kind).replace("数".encode(), "数".encode("gbk"), 3)  # the first row
        report = check_file(written(tmp_path / kind, data))
        assert report.usable == 299 and "not UTF-8" in report.unusable[0][1], kind
    table = pa.table(
        {"instruction": ["a", "b"], "output": pa.array([b"ok", b"\xc4\xe3"], pa.binary()).view(pa.string())}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    report = check_file(written(tmp_path / "p", sink.getvalue()))
    assert report.unusable == [(2, "it holds bytes that are not UTF-8 text")] and report.usable == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_that_spreadsheets_write(encoding, delimiter, tmp_path) -> None:
    text = delimiter.join(("instruction", "output")) + "\r\n" + delimiter.join(("问", '"答\r\n答"')) + "\r\n"
    (read,) = read_conversations(written(tmp_path / "table.csv", text.encode(encoding)))
    assert [m["content"] for m in read["messages"]] == ["问", "答\r\n答"]


def test_faulty_csv_does_not_swallow_what_follows(tmp_path) -> None:
    text = 'instruction,output\na,b\nc,"d"e\nf,g,h\ni,"j\nk,l\n'
    report = check_file(written(tmp_path / "table.csv", text.encode()))
    assert [number for number, _ in report.unusable] == [2, 3, 4] and report.usable == 1
    assert "3 cells" in report.unusable[1][1]


def test_rows_are_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("wikigpt.instruct.tables.LONGEST_ROW", 10_000)
    row = json.dumps(GOOD[0])
    long = json.dumps({"instruction": "x" * 30_000, "output": "y"})
    lines = check_file(written(tmp_path / "l", f"{row}\n{long}\n{row}\n".encode()))
    assert [number for number, _ in lines.unusable] == [2] and lines.usable == 2
    zeros = written(tmp_path / "z", gzip.compress(b"[" + row.encode() + b'\n,{"x":"' + b"0" * 50_000_000))
    tracemalloc.start()
    listed = check_file(zeros)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert listed.usable == 1 and "nothing behind it" in listed.unusable[0][1] and peak < 10_000_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"- a: 1\n- b: 2\n", "no rows that could be conversations"),
        (b"title,text\na,b\n", "no rows that could be conversations"),
        (bytes(range(256)), "no rows that could be conversations"),
        (gzip.compress(b"x" * 99)[:12], "damaged"),
        (None, "cannot be read"),
    ],
)
def test_files_without_rows_are_refused(data, words, tmp_path) -> None:
    path = tmp_path / "file.jsonl"
    if data is not None:
        path.write_bytes(data)
    for read in (check_file, lambda path: next(read_conversations(path)), lambda path: next(read_pairs(path))):
        with pytest.raises(UserError, match=words):
            read(path)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b'{"messages": [{"role": [], "content": "x"}]}')
@example(b"[1e999, 2")
@example(b"[" * 100_000)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_traceback(tmp_path, data) -> None:
    path = written(tmp_path / "any", data)
    for prefix in (b"", b"[", b'{"messages": ', b"instruction,output\n"):
        path.write_bytes(prefix + data)
        try:
            report = check_file(path)
        except UserError:
            continue
        assert report.usable + len(report.unusable) == report.rows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "from", "content", "value", "type", "text", "replies"]), inner)
    ),
    max_leaves=8,
)
COLUMNS = """messages conversations instruction input output prompt completion chosen rejected history system instances
message_id parent_id text role label lang tools rank message_tree_id"""
columns = st.sampled_from(COLUMNS.split())


@given(st.lists(st.dictionaries(columns, json_values, max_size=6), min_size=1, max_size=4))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_makes_a_traceback(tmp_path, rows) -> None:
    report = check_file(written(tmp_path / "any.jsonl", rows))
    assert report.rows == len(rows)


def tree() -> list[Row]:
    """A prompt with three answers, of which two are talked about; ids tell the path."""
    made = []
    for number, parent, role, rank in [
        ("1", None, "prompter", None),
        ("1b", "1", "assistant", 1),
        ("1a", "1", "assistant", 0),
        ("1c", "1", "assistant", 2),
        ("1a1", "1a", "prompter", None),
        ("1a2", "1a", "prompter", None),
        ("1b1", "1b", "prompter", None),
        ("1b1a", "1b1", "assistant", None),
        ("1a1a", "1a1", "assistant", None),
        ("1a1x", "1a1", "assistant", None),
    ]:
        made.append(
            {"message_id": number, "parent_id": parent, "message_tree_id": "1", "role": role, "text": f"text {number}"}
            | {"rank": rank, "lang": "en", "deleted": number == "1a1x"}
        )
    return made


def test_trees_of_messages_give_the_best_thread_and_pairs(tmp_path) -> None:
    other = [{**row, "message_tree_id": "2", "text": row["text"] + "!"} for row in tree()[:2]]
    orphan = {**tree()[1], "message_tree_id": "3", "message_id": "x", "parent_id": "gone"}
    path = written(tmp_path / "oasst.jsonl", [*tree(), *other, orphan])
    texts = [[m["content"] for m in c["messages"]] for c in read_conversations(path)]
    assert texts == [["text 1", "text 1a", "text 1a1", "text 1a1a"], ["text 1!", "text 1b!"]]
    (pair,) = read_pairs(path)
    assert (pair["chosen"], pair["rejected"]) == ("text 1a", "text 1c")
    reasons = dict(check_file(path).unusable)
    assert sorted(reasons) == [2, 6, 7, 8, 10, 13]
    assert "ranked above" in reasons[2] and "no assistant" in reasons[6] and "branch" in reasons[7]
    assert "deleted" in reasons[10] and "not in its tree" in reasons[13]

    def nested(parent: Row) -> Row:
        return {**parent, "replies": [nested(row) for row in tree() if row["parent_id"] == parent["message_id"]]}

    whole = written(tmp_path / "trees.jsonl", [{"message_tree_id": "1", "prompt": nested(tree()[0])}])
    assert [[m["content"] for m in c["messages"]] for c in read_conversations(whole)] == texts[:1]
    assert list(read_pairs(whole)) == [pair]


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("What is the capital of France? It is Paris.", "en"),
        ("法国的首都是哪里？是巴黎 (Paris)。", "zh"),
        ("请用 Python 写一个排序函数。\n" + "def sort(values):\n    return sorted(values)\n" * 8, "zh"),
        ("What does 北京 mean? It is the name of the capital of China, and means northern capital.", "en"),
        ("フランスの首都はどこですか。パリです。", "ja"),
        ("프랑스의 수도는 어디입니까? 파리입니다.", "ko"),
        ("Какой город является столицей Франции?", "other"),
        ("Quelle est la capitale de la France ? Paris est la capitale de la France depuis des siècles.", "other"),
        ("Was ist die Hauptstadt von Frankreich, und wie lange schon? Das ist seit langer Zeit Paris.", "other"),
        ("1 + 1 = 2", "other"),
    ],
)
def test_languages(text, lang) -> None:
    assert detect_language(text) == lang


def test_languages_that_rows_name() -> None:
    assert [named_language(n) for n in ("zh-CN", "EN_us", " de ", "zh-yue", "English", "", 3, None, "train")] == [
        "zh", "en", "de", "zh-yue", None, None, None, None, None,
    ]  # fmt: skip


def rows_of(number: int, prefix: str = "Question") -> list[Row]:
    return [{"messages": chat(f"{prefix} number {i} is what?", f"Answer {i}.")} for i in range(number)]


def mixed(path: Path, **options: Any) -> Any:
    return mix([Extra(path=str(path), **options)], 5, set())


def test_weights_and_maxima(tmp_path) -> None:
    path = written(tmp_path / "my.jsonl", rows_of(1000))
    held = {c["messages"][0]["content"] for c in mixed(path).validation}
    assert len(held) == 20  # 2 %
    for options, expected in (({}, 980), ({"weight": 2}, 1960), ({"weight": 0.5}, 490), ({"maximum": 99}, 99)):
        train = mixed(path, **options).train
        taken = Counter(c["messages"][0]["content"] for c in train)
        assert len(train) == expected and not held & taken.keys()
        assert set(taken.values()) == {2 if options.get("weight") == 2 else 1}
    half = mixed(path, weight=0.5)
    assert mixed(path, weight=0.5).train == half.train
    assert mix([Extra(path=str(path), weight=0.5)], 6, set()).train != half.train
    assert len(mixed(written(tmp_path / "large.jsonl", rows_of(10_100))).validation) == 200


def test_held_out_questions_are_never_trained_on(tmp_path) -> None:
    # Each opening has three answers; each conversation ends with one of few questions, which many share.
    rows = [{"messages": chat(f"opening {i // 3}", f"a{i}", f"and {i % 400}?", "b")} for i in range(1200)]
    paths = [written(tmp_path / "a.jsonl", rows), written(tmp_path / "b.jsonl", rows[:300] + rows_of(200, "opening"))]
    for seed in range(5):
        taught = {"opening3", "questionnumber7iswhat"}
        made = mix([Extra(path=str(path)) for path in paths], seed, taught)
        told = taught | {question for c in made.train for question in asked(c)}
        assert not told & {question for c in made.validation for question in asked(c)}
        assert made.counts[1]["duplicates"] == 300
        assert len(made.train) + len(made.validation) == 1400
    assert len(made.validation) > 0
    single = [Extra(path=str(written(tmp_path / "c.jsonl", rows_of(100))))]
    assert len(mix(single, 0, set()).validation) == 2
    assert mix(single, 0, {question for row in rows_of(100) for question in asked(row)}).validation == []
    # One opening that most conversations share is not held out: that would be far more than 2 %.
    shared = [{"messages": chat("hi", "hello", f"and {i}?", "b")} for i in range(90)]
    path = written(tmp_path / "shared.jsonl", shared + rows_of(10))
    assert {len(mix([Extra(path=str(path))], seed, set()).validation) for seed in range(30)} <= {1, 2}


def test_no_more_is_kept_than_is_taken(tmp_path) -> None:
    rows = ({"instruction": f"Question {i}?", "output": "x" * 8000} for i in range(1500))
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    tracemalloc.start()
    made = mixed(path, maximum=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made.train) == 100
    assert peak < path.stat().st_size / 5


@pytest.fixture
def corpus(tmp_path) -> Path:
    from wikigpt.corpus import build_corpus

    lines = [
        {"title": f"Town {i}", "text": f"Town {i} is a town with {i + 3} inhabitants and a railway station. " * 3}
        for i in range(40)
    ]
    source = written(tmp_path / "wiki.jsonl", lines)
    build_corpus([source], tmp_path / "corpus", lang="en")
    return tmp_path / "corpus"


def lines_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_conversations_of_files_are_mixed_into_those_of_the_wiki(corpus, tmp_path) -> None:
    def build(name: str, extra: list[Extra]) -> tuple[Row, dict[str, list[Row]]]:
        output = tmp_path / name
        facts = build_conversations(corpus, output, settings=InstructSettings(extra=extra), seed=3)
        return facts, {part: lines_of(output / f"{part}.jsonl") for part in ("train", "validation", "questions")}

    without, plain = build("plain", [])
    assert without["extra"] == [] and plain["questions"]
    asked_there = plain["questions"][0]["question"]
    rows = [*rows_of(100), {"messages": chat(asked_there, "I know.")}]
    path = written(tmp_path / "my.jsonl", encoded(rows, "jsonl") + b"{}\n")
    messages: list[str] = []
    facts, both = build("both", [Extra(path=str(path), weight=2)])
    (counts,) = facts["extra"]
    assert counts["train"] + 2 * counts["validation"] == 202 and counts["validation"] == 2 and counts["unusable"] == 1
    assert len(both["train"]) == len(plain["train"]) + counts["train"]
    untaught = [c for c in plain["validation"] if c["messages"][-2]["content"] != asked_there]
    assert len(both["validation"]) == len(untaught) + 2
    assert all(c in both["train"] for c in plain["train"])
    half = both["train"][: len(both["train"]) // 2]
    assert 60 < sum(c["task"] == "chat" for c in half) < 140  # in random order
    assert any(c["messages"][0]["content"] == asked_there for c in both["train"])
    assert asked_there not in {q["question"] for q in both["questions"]}
    assert len(both["questions"]) >= len(plain["questions"]) - 1
    build_conversations(
        None,
        tmp_path / "alone",
        settings=InstructSettings(extra=[Extra(path=str(path))]),
        seed=3,
        progress=lambda done, total, text: messages.append(text),
    )
    assert len(lines_of(tmp_path / "alone" / "train.jsonl")) == 99 and not lines_of(tmp_path / "alone/questions.jsonl")
    assert any("1 of 102 lines were left out (line 102: its columns" in text for text in messages)


def test_files_without_conversations_point_to_the_check(tmp_path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(UserError, match=r"only 1 preference pairs.*--check"):
        mixed(pairs)
    with pytest.raises(UserError, match=r"no conversation that can be used.*--check"):
        mixed(written(tmp_path / "bad.jsonl", [{"text": "a"}]))
    with pytest.raises(UserError, match="there is no file"):
        mixed(tmp_path / "missing.jsonl")


def test_a_changed_file_changes_the_stage_and_recipes_keep_it(tmp_path) -> None:
    path = written(tmp_path / "my.jsonl", rows_of(5))
    recipe = load_recipe("tiny", [f'instruct.extra=[{{path="{path.as_posix()}", weight=0.5, maximum=9}}]'])
    (tmp_path / "r.toml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(tmp_path / "r.toml")).instruct.extra == [Extra(path=path.as_posix(), weight=0.5, maximum=9)]

    def instruct(recipe: Recipe) -> Any:
        return next(stage.settings for stage in build_stages(recipe, tmp_path / "run") if stage.name == "instruct")

    before = instruct(recipe)
    assert instruct(recipe) == before
    written(path, rows_of(6))
    assert instruct(recipe) != before
    with pytest.raises(UserError, match="weight"):
        load_recipe("tiny", ['instruct.extra=[{path="x", weight=-1}]'])
    with pytest.raises(UserError, match=r"no key instruct\.extra"):
        load_recipe("tiny", ['instruct.extra=[{path="x", share=1}]'])


def wikigpt(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wikigpt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_command_checks_and_mixes(tmp_path) -> None:
    path = written(tmp_path / "a=b.jsonl", [*rows_of(60), *[{"x[bold]": 1}] * 25])
    shown = wikigpt("instruct", "--check", path)
    assert shown.returncode == 0 and shown.stdout.count(": its columns are those of no format known (x[bold])") == 20
    for words in ("60 of 85 lines can be used", "messages", "en", "25 × its columns", "line 61: its", "--json lists"):
        assert words in shown.stdout
    checked = json.loads(wikigpt("instruct", "--check", path, "--json").stdout)
    assert checked["usable"] == 60 and checked["unusable"][-1]["line"] == 85 and len(checked["unusable"]) == 25
    assert checked["conversations"] == {"messages": {"en": 60}}
    bad = written(tmp_path / "bad.jsonl", [{"text": "x"}])
    assert wikigpt("instruct", "--check", bad, "--quiet").returncode == 2

    done = wikigpt("instruct", "--add", path, "--add", f"{path}=2", "-o", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "25 of 85 lines were left out" in done.stdout
    assert len(lines_of(tmp_path / "c" / "train.jsonl")) == 59  # the second time all are duplicates
    for arguments, words in (
        (["--add", bad, "-o", tmp_path / "d"], "--check"),
        (["--add", f"{bad}=-1", "-o", tmp_path / "d"], "weight"),
        (["-o", tmp_path / "d"], "--add"),
        (["--add", path], "-o"),
    ):
        result = wikigpt("instruct", *arguments)
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert not (tmp_path / "d").exists()


REAL = {  # rows, usable rows, conversations, pairs, duplicates
    "lf_alpaca_en_demo.jsonl.gz": (999, 999, 999, 0, 14),
    "lf_alpaca_zh_demo.jsonl.gz": (1000, 1000, 1000, 0, 8),
    "lf_identity.jsonl.gz": (91, 91, 91, 0, 0),
    "lf_dpo_en_demo.jsonl.gz": (300, 300, 0, 300, 5),
    "lf_dpo_zh_demo.jsonl.gz": (300, 300, 0, 300, 11),
    "lf_kto_en_demo.jsonl.gz": (300, 150, 150, 0, 0),
    "oasst1-en-messages.jsonl.gz": (2022, 799, 189, 243, 0),
    "oasst1-zh-sft.jsonl.gz": (689, 689, 689, 0, 5),
    "oasst1-zh-pref.jsonl.gz": (775, 772, 0, 772, 0),
    "self-instruct-175-seeds.jsonl": (175, 175, 175, 0, 0),
    "kdconv-film-dev.json.gz": (150, 0, 0, 0, 0),  # two people who have no roles
}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real conversations at {DATA}; set WIKIGPT_DATA")
@pytest.mark.parametrize("name", [*REAL])
def test_real_files(name) -> None:
    report = check_file(DATA / name)
    conversations, pairs = (
        sum(sum(c.values()) for c in kind.values()) for kind in (report.conversations, report.pairs)
    )
    assert (report.rows, report.usable, conversations, pairs, report.duplicates) == REAL[name]
    counts = Counter[str]()
    for by_lang in (*report.conversations.values(), *report.pairs.values()):
        counts += by_lang
    if counts and name != "lf_identity.jsonl.gz":
        lang, number = counts.most_common(1)[0]
        assert lang == ("zh" if "zh" in name else "en") and number > 0.95 * counts.total()
