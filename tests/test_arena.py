"""The arena: a person at a real terminal, votes on disk, and what is made of them."""

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from conftest import wikigpt
from wikigpt.errors import UserError
from wikigpt.evaluate.arena import Tally, Votes
from wikigpt.instruct import check_file, read_pairs

PROGRAM = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from test_chat_session import FakeEngine
    from wikigpt.chat.session import ChatSession
    from wikigpt.evaluate.arena import Votes, run_arena

    def model(name):
        return ChatSession(FakeEngine(lambda text: "Same." if "same" in text else f"{name} says \\x1b[31m{text}", 200))

    questions = json.loads(sys.argv[2])
    tally = run_arena(("a", "b"), (model("Anna"), model("Bert")), Votes(Path(sys.argv[1])), questions, lang=sys.argv[3])
    print("TALLY", tally)
    """
)


class Voter:
    """Starts the arena and answers as a person does who prefers Anna."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[pexpect.spawn] = []
        (folder / "program.py").write_text(PROGRAM)

    def start(self, questions: list[str] | None, lang: str = "en") -> pexpect.spawn:
        arguments = [str(self.folder / "program.py"), str(self.folder / "votes.jsonl"), json.dumps(questions), lang]
        child = pexpect.spawn(
            sys.executable,
            arguments,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TERM": "dumb"},
            encoding="utf-8",
            timeout=20,
            dimensions=(24, 200),
        )
        self.children.append(child)
        return child

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "votes.jsonl").read_text().splitlines()]


@pytest.fixture
def voter(tmp_path: Path) -> Iterator[Voter]:
    voter = Voter(tmp_path)
    yield voter
    for child in voter.children:
        child.close(force=True)


def test_votes_follow_the_answer_wherever_it_stands(voter: Voter) -> None:
    questions = [f"question {i}" for i in range(12)]
    child = voter.start(questions)
    places = []
    for question in questions:
        child.expect_exact(question)
        child.expect_exact("[1] ")
        places.append(child.expect_exact(["Anna says", "Bert says"]))
        child.expect_exact("q> ")
        assert "\x1b[31m" not in child.before  # what a model says cannot colour the terminal
        child.sendline("12"[places[-1]])
    child.expect_exact("TALLY Tally(wins=12, losses=0, ties=0, both_bad=0)")
    assert set(places) == {0, 1}  # each of them stood first at times
    assert {row["winner"] for row in voter.rows()} == {"model_a"}


def test_an_arena_goes_on_where_it_was_left_and_prefer_learns_from_it(voter: Voter) -> None:
    questions = ["one", "the same", "two", "three", "x" * 300, "four", "five"]
    child = voter.start(questions)
    child.expect_exact("q> ")
    child.sendline("?")
    child.expect_exact("Type one of")
    child.sendline("1")
    child.expect_exact("Both said the same: a tie.")
    child.expect_exact("q> ")
    child.sendline("=")
    child.expect_exact("three")
    child.expect_exact("q> ")
    child.sendcontrol("c")
    child.expect_exact("TALLY")
    assert [row["question"] for row in voter.rows()] == ["one", "the same", "two"]
    child = voter.start(questions)
    child.expect_exact("4/7  three")
    child.sendline("0")
    child.expect_exact("Shorten it")  # the long one; the arena goes on
    child.expect_exact("6/7  four")
    child.sendline("s")
    child.expect_exact("7/7  five")
    child.sendline("2")
    child.expect_exact("ties=2, both_bad=1)")
    assert [row["winner"] for row in voter.rows()][1:4] == ["tie", "tie", "tie (bothbad)"]

    pairs = list(read_pairs(voter.folder / "votes.jsonl"))
    assert [pair["messages"][0]["content"] for pair in pairs] == ["one", "five"]
    for pair, row in zip(pairs, (voter.rows()[0], voter.rows()[-1]), strict=True):
        loser = {"model_a": "conversation_b", "model_b": "conversation_a"}[row["winner"]]
        assert pair["rejected"] == row[loser][1]["content"] != pair["chosen"]
    report = check_file(voter.folder / "votes.jsonl")
    assert (report.usable, report.rows) == (2, 5) and "neither" in report.unusable[0][1]


def test_questions_are_typed_where_there_is_no_file_and_chinese_is_spoken(voter: Voter) -> None:
    child = voter.start(None, lang="zh")
    child.expect_exact("哪个回答更好？")
    child.expect_exact("问题> ")
    child.sendline("天空是什么颜色？")
    child.expect_exact("q> ")
    child.sendline("1")
    child.expect_exact("问题> ")
    child.sendeof()
    child.expect_exact("TALLY")
    assert [(row["question"], row["language"]) for row in voter.rows()] == [("天空是什么颜色？", "zh")]


def test_votes_count_from_either_side(tmp_path: Path) -> None:
    rows = [("a", "b", "model_a")] * 6 + [("b", "a", "model_a")] * 2 + [("a", "b", "tie"), ("b", "a", "tie (bothbad)")]
    (tmp_path / "v.jsonl").touch()
    votes = Votes(tmp_path / "v.jsonl")
    for number, (a, b, winner) in enumerate([*rows, ("a", "c", "model_a")]):
        votes.add(
            {"question": f"{number}", "why": "a line\u2028and another", "model_a": a, "model_b": b, "winner": winner}
        )
    again = Votes(tmp_path / "v.jsonl")
    assert again.tally("a", "b") == Tally(6, 2, 1, 1) and again.tally("b", "a") == Tally(2, 6, 1, 1)
    assert again.asked("b", "a") == {str(i) for i in range(10)}
    tally = again.tally("a", "b")
    assert tally.share == 0.7
    # Wilson's interval of 7 in 10 at 95 %
    assert tally.interval == pytest.approx((0.3968, 0.8922), abs=1e-4)


@pytest.mark.parametrize(("line", "word"), [("{", "JSON"), ("[1]", "JSON"), ('{"question": "x"}', "model_a")])
def test_a_file_that_holds_no_votes_is_refused_with_the_line(tmp_path: Path, line: str, word: str) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"question": "x", "model_a": "a", "model_b": "b", "winner": "tie"}\n' + line + "\n")
    with pytest.raises(UserError, match=rf"v\.jsonl, line 2: .*{word}"):
        Votes(path)


def test_two_builds_at_the_command_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("What is the capital of France?\n法国的首都是哪里？\n", encoding="utf-8")
    votes = tmp_path / "votes.jsonl"
    same = wikigpt("arena", run, run, "-o", votes)
    assert same.returncode == 2 and "would say the same" in same.stderr
    hot = wikigpt("arena", run, run, "-o", votes, "--temperature", "99")
    assert hot.returncode == 2 and "--temperature" in hot.stderr and "Traceback" not in hot.stderr
    child = pexpect.spawn(
        sys.executable,
        [
            "-m",
            "wikigpt",
            "arena",
            str(run),
            str(run / "base"),
            "--questions",
            str(tmp_path / "q.txt"),
            "-o",
            str(votes),
        ],
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 300),
    )
    for _ in range(2):
        child.expect_exact("q> ")
        child.sendline("1")
    child.expect_exact("is preferred in")
    child.expect(pexpect.EOF)
    assert [row["model_b"] for row in Votes(votes).rows] == [str(run / "base")] * 2
