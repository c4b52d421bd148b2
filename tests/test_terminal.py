"""The terminal: a real process in a pseudo-terminal, with an engine that needs no model."""

import io
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_chat_session import WIKI, FakeEngine
from wikigpt.chat.session import ChatSession
from wikigpt.chat.terminal import ask_once, bold_shown, locale_language, plain
from wikigpt.errors import UserError
from wikigpt.knowledge import Index, index_documents

PROGRAM = textwrap.dedent(
    """
    import sys, time
    from test_chat_session import FakeEngine
    from wikigpt.chat.session import ChatSession
    from wikigpt.chat.terminal import run_terminal
    from wikigpt.knowledge import Index

    class Slow(FakeEngine):
        def stream(self, prompt, **settings):
            for piece in super().stream(prompt, **settings):
                time.sleep(0.3 if "slow" in prompt[-1]["content"] else 0)
                yield piece

    def reply(text):
        return "0123456789" * 20 if "slow" in text else "It is **bold** 你好."

    index = Index(sys.argv[2]) if sys.argv[2] else None
    run_terminal(ChatSession(Slow(reply), index), lang=sys.argv[1] or None)
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terminal")
    index_documents(WIKI, path / "index.sqlite")
    (path / "program.py").write_text(PROGRAM)
    return path


@pytest.fixture
def start(folder: Path) -> Iterator[object]:
    children: list[pexpect.spawn] = []

    def run(lang: str = "en", *, grounded: bool = False, **environment: str) -> pexpect.spawn:
        child = pexpect.spawn(
            sys.executable,
            [str(folder / "program.py"), lang, str(folder) if grounded else ""],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TERM": "xterm", **environment},
            encoding="utf-8",
            timeout=20,
            cwd=folder,
            dimensions=(24, 200),
        )
        children.append(child)
        child.expect("> ")
        return child

    yield run
    for child in children:
        child.close(force=True)


def test_a_chat_from_hello_to_quit(start) -> None:  # type: ignore[no-untyped-def]
    child = start()
    child.sendline("hello")
    child.expect_exact("It is \x1b[1mbold\x1b[22m 你好.")
    child.sendline("")  # nothing happens
    child.expect("> ")
    child.sendline("/nonsense")
    child.expect_exact("There is no command /nonsense; /help lists them.")
    child.sendline("/help")
    child.expect_exact("/set KEY=VALUE")
    child.sendline("/quit")
    child.expect("Bye")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_stops_the_answer_and_ctrl_d_the_program(start, folder: Path) -> None:  # type: ignore[no-untyped-def]
    child = start()
    child.sendline("slow please")
    child.expect_exact("01")
    child.sendintr()
    child.expect_exact("[stopped]")
    child.expect("> ")
    child.sendintr()  # at the prompt it only clears the line
    child.expect("> ")
    child.sendline(f"/save {folder / 'stopped.json'}")
    child.expect("Saved")
    child.sendline("still there?")
    child.expect("bold")
    child.expect("> ")
    child.sendeof()
    child.expect("Bye")
    child.expect(pexpect.EOF)
    saved = json.loads((folder / "stopped.json").read_text())
    assert saved["turns"][0]["answer"]["interrupted"]
    assert saved["turns"][0]["answer"]["text"].startswith("01")


def test_settings_are_checked_and_kept(start, folder: Path) -> None:  # type: ignore[no-untyped-def]
    child = start()
    for typed, shown in (
        ("/set temperature=0.7", "temperature = 0.7"),
        ("/set temperature=hot", "hot does not fit temperature: "),
        ("/set temperature=-1", "-1 does not fit temperature: "),
        ("/set colour=red", "There is no setting colour; there are: max_new_tokens, temperature"),
        ("/set temperature", "Write /set KEY=VALUE"),
        ("/set seed=7", "seed = 7"),
        ("/set seed=none", "seed = None"),
        ("/set grounded=on", "There is no search index"),
        ("/set", "grounded = off"),
        ("/system Be brief.", "The system text is set."),
        ("/save", "/save needs a file name"),
        ("/load missing.json", "missing.json: No such file"),
    ):
        child.sendline(typed)
        child.expect_exact(shown)
        child.expect("> ")
    child.sendline("hello")
    child.expect("bold")
    child.sendline("/save chat.json")
    child.expect_exact("Saved to chat.json.")
    child.sendline("/reset")
    child.expect("Forgotten")
    child.sendline("/load chat.json")
    child.expect_exact("Loaded 1 turns from chat.json.")
    saved = json.loads((folder / "chat.json").read_text())
    assert (saved["settings"]["temperature"], saved["system"]) == (0.7, "Be brief.")


def test_sources_are_listed_and_the_interface_speaks_chinese(start) -> None:  # type: ignore[no-untyped-def]
    child = start("zh", grounded=True)
    child.sendline("法国的首都是哪里？")
    child.expect_exact("《法国》中写道：“首都是\x1b[1m巴黎\x1b[22m。”[1]")
    child.expect_exact("来源：")
    child.expect_exact("[1] 法国  https://example.org/法国")
    child.sendline("它的货币是什么？")
    child.expect_exact("欧元")
    child.sendline("/set grounded=off")
    child.expect_exact("grounded = off")
    child.sendline("法国的首都是哪里？")
    child.expect_exact("It is")
    child.sendline("/quit")
    child.expect_exact("再见")


def test_the_locale_chooses_the_language(start, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    child = start("", LC_ALL="zh_CN.UTF-8", NO_COLOR="1")
    child.sendline("hello")
    child.expect_exact("It is bold 你好.")  # no styles asked for: the stars are gone all the same
    child.sendline("/quit")
    child.expect_exact("再见")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert locale_language() == "en"


@given(st.text(alphabet="*ab 你", max_size=20), st.data())
def test_bold_does_not_depend_on_where_the_stream_is_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(bold_shown(pieces, False)) == text.replace("**", "")
    assert "".join(bold_shown(pieces, True)) == "".join(bold_shown([text], True))


def test_what_a_model_says_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[2Jb\x1b]0;title\x07c\x07\n你") == "abc\n你"


def test_ask_once_writes_text_or_json(folder: Path) -> None:
    session = ChatSession(FakeEngine(), Index(folder))  # type: ignore[arg-type]
    output = io.StringIO()
    ask_once(session, "What is the capital of France?", output=output)
    assert output.getvalue() == (
        'From "France": "Its capital is **Paris**." [1]\n[1] France  https://example.org/France\n'
    )
    output = io.StringIO()
    ask_once(session, "法国的首都是哪里？", json=True, output=output)
    value = json.loads(output.getvalue())
    assert (value["question"], value["quoted"], value["sources"][0]["title"]) == ("法国的首都是哪里？", True, "法国")
    with pytest.raises(UserError):
        ask_once(session, "  ", output=output)
