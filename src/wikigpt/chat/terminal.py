"""Chatting in the terminal.

Only this module prints. Bold is shown as bold where the output is a terminal and left as it is elsewhere; everything
else works the same when input and output are files.
"""

import json
import locale
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from wikigpt.chat.session import Answer, ChatSession
from wikigpt.errors import UserError

_BOLD_ON, _BOLD_OFF, _DIM, _PLAIN = "\x1b[1m", "\x1b[22m", "\x1b[2m", "\x1b[0m"
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_TEXTS = {
    "en": {
        "hello": "Ask something; /help lists the commands, Ctrl-D quits.",
        "help": (
            "/reset            forget the conversation\n"
            "/system TEXT      set the system text (empty: remove it)\n"
            "/set KEY=VALUE    change a setting; /set alone lists them\n"
            "/adapter NAME     answer with this adapter (none: with the base alone); /adapter alone lists them\n"
            "/save FILE        save the conversation as JSON\n"
            "/load FILE        go on with a saved conversation\n"
            "/help             this list\n"
            "/quit             leave (also Ctrl-D); Ctrl-C stops an answer"
        ),
        "reset": "Forgotten.",
        "system": "The system text is set.",
        "no_system": "There is no system text now.",
        "set": "{key} = {value}",
        "saved": "Saved to {file}.",
        "loaded": "Loaded {count} turns from {file}.",
        "unknown": "There is no command {command}; /help lists them.",
        "need_file": "{command} needs a file name, for example: {command} chat.json",
        "need_pair": "Write /set KEY=VALUE, for example: /set temperature=0.7",
        "no_key": "There is no setting {key}; there are: {keys}.",
        "bad_value": "{value} does not fit {key}: {reason}.",
        "no_index": "There is no search index to ground answers in; make one with `wikigpt index`.",
        "stopped": "[stopped]",
        "sources": "Sources:",
        "bye": "Bye.",
    },
    "zh": {
        "hello": "请提问；/help 列出命令，Ctrl-D 退出。",
        "help": (
            "/reset            忘掉前面的对话\n"
            "/system 文字      设定系统提示（不写文字：去掉它）\n"
            "/set 名称=值      修改设置；只写 /set 则列出全部\n"
            "/adapter 名称     换用这个适配器（none：只用基座）；只写 /adapter 则列出全部\n"
            "/save 文件        把对话存为 JSON\n"
            "/load 文件        接着已保存的对话聊\n"
            "/help             显示本说明\n"
            "/quit             退出（也可用 Ctrl-D）；Ctrl-C 停止当前回答"
        ),
        "reset": "前面的对话已忘掉。",
        "system": "系统提示已设定。",
        "no_system": "现在没有系统提示。",
        "set": "{key} = {value}",
        "saved": "已保存到 {file}。",
        "loaded": "已从 {file} 读入 {count} 轮对话。",
        "unknown": "没有命令 {command}；/help 列出全部命令。",
        "need_file": "{command} 后面要写文件名，例如：{command} chat.json",
        "need_pair": "请写成 /set 名称=值，例如：/set temperature=0.7",
        "no_key": "没有叫 {key} 的设置；可用的有：{keys}。",
        "bad_value": "{key} 不能设为 {value}：{reason}。",
        "no_index": "没有检索索引，回答无法依据维基；请先用 `wikigpt index` 建立索引。",
        "stopped": "[已停止]",
        "sources": "来源：",
        "bye": "再见。",
    },
}


def run_terminal(
    session: ChatSession,
    *,
    lang: str | None = None,
    output: TextIO | None = None,
    styled: bool | None = None,
    greeting: str = "",
) -> None:
    """Talk with `session` until the user quits; reads lines with `input()`.

    Args:
        lang: language of the interface, "zh" or "en"; None takes the locale's.
        output: where to write, standard output by default.
        styled: whether to write bold and dim text; None does so on a terminal, unless NO_COLOR is set.
        greeting: printed first, for example the model's name.
    """
    _Terminal(session, lang or locale_language(), output or sys.stdout, styled, greeting).run()


def ask_once(session: ChatSession, text: str, json: bool = False, *, output: TextIO | None = None) -> Answer:
    """Answer one question for a script: the answer and its sources as text, or as one JSON object."""
    output = output or sys.stdout
    if json:
        answer = session.ask(text)
        output.write(_as_json(text, answer) + "\n")
    else:
        answer = session.ask(text)
        output.write(plain(answer.text) + "\n")
        output.writelines(f"{line}\n" for line in (*tool_lines(answer), *source_lines(answer)))
        if answer.notice:
            output.write(answer.notice + "\n")
    output.flush()
    return answer


def locale_language() -> str:
    """Return "zh" where the user's locale is Chinese, else "en"."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    code = locale.getlocale()[0] or ""
    return "zh" if code.lower().startswith(("zh", "chinese")) else "en"


def plain(text: str) -> str:
    """Return `text` without what could steer a terminal: escape sequences and control characters."""
    return _ESCAPES.sub("", text)


def bold_shown(pieces: Iterable[str], styled: bool) -> Iterator[str]:
    """Turn Markdown bold (`**`) in streamed `pieces` into the terminal's bold; unstyled, into nothing.

    A piece may end between the two stars; a lone star is given out as it is.
    """
    bold = False
    held = ""
    for piece in pieces:
        parts = (held + piece).split("**")
        last = parts[-1]
        held = "*" if last.endswith("*") else ""
        parts[-1] = last.removesuffix("*") if held else last
        shown = parts[0]
        for part in parts[1:]:
            bold = not bold
            shown += (_BOLD_ON if bold else _BOLD_OFF) * styled + part
        if shown:
            yield shown
    if held or (bold and styled):
        yield held + _BOLD_OFF * (bold and styled)


def source_lines(answer: Answer) -> list[str]:
    """Return the sources of an answer, one a line: number, title, URL."""
    return [f"[{source.number}] {source.title}  {source.url}".rstrip() for source in answer.sources]


def tool_lines(answer: Answer) -> list[str]:
    """Return what was worked out for an answer, one a line: expression and result."""
    return [f"{use.expression}{': ' if use.failed else ' = '}{use.result}" for use in answer.tools]


class _Terminal:
    """The loop of `run_terminal`."""

    def __init__(self, session: ChatSession, lang: str, output: TextIO, styled: bool | None, greeting: str) -> None:
        self.session = session
        self.lang = lang
        self.texts = _TEXTS["zh" if lang.startswith("zh") else "en"]
        self.output = output
        self.styled = (output.isatty() and "NO_COLOR" not in os.environ) if styled is None else styled
        self.greeting = greeting
        self.commands = {
            "/reset": self.reset,
            "/system": self.system,
            "/set": self.set,
            "/adapter": self.adapter,
            "/save": self.save,
            "/load": self.load,
            "/help": self.help,
        }

    def run(self) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401  # gives `input()` line editing and a history
        if self.greeting:
            self.say(self.greeting)
        self.say(self.texts["hello"], dim=True)
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                self.say("")
                break
            except KeyboardInterrupt:  # Ctrl-C at the prompt throws the line away
                self.say("")
                continue
            except UnicodeDecodeError as error:
                self.say(str(error))
                continue
            if line in ("/quit", "/exit"):
                break
            if line:
                self.answer_line(line)
        self.say(self.texts["bye"], dim=True)

    def answer_line(self, line: str) -> None:
        """Do what the line says; a mistake of the user's is printed and the chat goes on."""
        try:
            if line.startswith("/"):
                name, _, rest = line.partition(" ")
                command = self.commands.get(name)
                if command is None:
                    raise UserError(self.texts["unknown"].format(command=plain(name)))
                command(rest.strip())
            else:
                self.answer(line)
        except UserError as error:
            self.say(plain(str(error)))

    def answer(self, question: str) -> None:
        pieces = self.session.stream(question)
        count = len(self.session.turns)
        try:
            for text in bold_shown((plain(piece) for piece in pieces), self.styled):
                self.output.write(text)
                self.output.flush()
        except KeyboardInterrupt:
            pieces.close()
            self.output.write(_PLAIN * self.styled)
            self.say(" " + self.texts["stopped"], dim=True)
            return
        self.say("")
        if len(self.session.turns) > count and (answer := self.session.last):
            for line in tool_lines(answer):
                self.say(line, dim=True)
            if answer.sources:
                self.say("\n".join([self.texts["sources"], *source_lines(answer)]), dim=True)
            if answer.notice:
                self.say(answer.notice, dim=True)

    def reset(self, _: str) -> None:
        self.session.reset()
        self.say(self.texts["reset"])

    def system(self, text: str) -> None:
        self.session.system = text or None
        self.say(self.texts["system" if text else "no_system"])

    def set(self, pair: str) -> None:
        settings = self.session.settings
        keys = list(type(settings).model_fields)
        if not pair:
            for key in keys:
                self.say(self.texts["set"].format(key=key, value=_written(getattr(settings, key))))
            return
        key, mark, value = (part.strip() for part in pair.partition("="))
        if not mark or not key or not value:
            raise UserError(self.texts["need_pair"])
        if key not in keys:
            raise UserError(self.texts["no_key"].format(key=plain(key), keys=", ".join(keys)))
        if key == "seed" and value.lower() == "none":
            settings.seed = None
        else:
            try:
                setattr(settings, key, value)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise UserError(self.texts["bad_value"].format(key=key, value=plain(value), reason=reason)) from None
        if settings.grounded and self.session.index is None:
            settings.grounded = False
            raise UserError(self.texts["no_index"])
        self.say(self.texts["set"].format(key=key, value=_written(getattr(settings, key))))

    def adapter(self, name: str) -> None:
        engine = self.session.engine
        if name:
            engine.use(None if name == "none" else name)
        for known in ("none", *engine.adapters):
            self.say(f"{'*' if known == (engine.adapter or 'none') else ' '} {plain(known)}")

    def save(self, name: str) -> None:
        path = self._file("/save", name)
        try:
            self.session.save(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}.") from None
        self.say(self.texts["saved"].format(file=path))

    def load(self, name: str) -> None:
        path = self._file("/load", name)
        try:
            self.session.load(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}.") from None
        self.say(self.texts["loaded"].format(count=len(self.session.turns), file=path))

    def help(self, _: str) -> None:
        self.say(self.texts["help"])

    def say(self, text: str, *, dim: bool = False) -> None:
        if dim and self.styled and text:
            text = f"{_DIM}{text}{_PLAIN}"
        self.output.write(text + "\n")
        self.output.flush()

    def _file(self, command: str, name: str) -> Path:
        if not name:
            raise UserError(self.texts["need_file"].format(command=command))
        return Path(name).expanduser()


def _written(value: object) -> str:
    """Write a setting's value as `/set` takes it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _as_json(question: str, answer: Answer) -> str:
    return json.dumps({"question": question, **asdict(answer)}, ensure_ascii=False)
