"""Second stage: templates, links and `-{…}-`, innermost first, as MediaWiki's preprocessor matches their brackets.

The text is cut at brackets once; a stack holds what is open. Every piece is looked at a bounded number of
times, whatever is nested or left unclosed.
"""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.wikitext import kernels
from wikigpt.corpus.wikitext.links import link
from wikigpt.corpus.wikitext.marks import GONE, PIPE
from wikigpt.corpus.wikitext.templates import render, render_head
from wikigpt.corpus.wikitext.variants import resolve

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

# MediaWiki stops expanding templates at 40 levels. Marks of constructs deeper than this are left out.
MAX_DEPTH = 100

# Opening marks, and the closing mark without which they mean nothing.
_PAIRS = (
    ("{{", re.compile(r"\{\{+"), "}}"),
    ("[[", re.compile(r"\[\[(?!\w+://)"), "]]"),
    ("-{", re.compile(r"-\{(?!\{)"), "}-"),
)
_CLOSING = {"{{": "}}", "[[": "]]"}
_LINE_START = re.compile(r"[*#:;]|\{\|")
Argument = tuple[str | None, str]  # name and value; the name is None without an equals sign


def fill_in(text: str, page: "Page") -> str:
    """Replace each template, link and `-{…}-` by what it shows. Marks that never close are left out."""
    variants = page.converts and kernels.follows(text, "{", "-")
    for mark, opening, closing in _PAIRS[: 3 if variants else 2]:
        last = text.rfind(closing) + 1
        rest = text[last:]
        if kernels.follows(rest, mark[1], mark[0]):
            text = text[:last] + opening.sub("", rest)
    pieces = kernels.pieces(text, variants)
    return pieces[0] if len(pieces) == 1 else _Reader(page).read(pieces)


class _Frame:
    """An opened construct and what has been read of it: wikitext and what nested constructs show, in turns."""

    __slots__ = ("count", "kind", "pieces", "piped")

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind  # "" for the page itself, else "{", "[" or "-"
        self.count = count  # braces in a row, for "{"
        self.pieces = [""]
        self.piped = False  # for "[": whether there was a pipe in its wikitext

    def add(self, shown: str) -> None:
        """Add what a nested construct shows: pipes and equals signs in it are text."""
        self.pieces += (shown, "")

    def head(self) -> str | None:
        """The name of a template; None if something is nested in it."""
        head, pipe, _ = self.pieces[0].partition("|")
        return head if pipe or len(self.pieces) == 1 else None

    def arguments(self) -> list[Argument]:
        """The content of a template: the parts between pipes, each split at its first equals sign."""
        if len(self.pieces) == 1:
            return _arguments(self.pieces[0])
        parts: list[Argument] = []
        name: str | None = None
        value: list[str] = []
        for number, piece in enumerate(self.pieces):
            if number % 2:
                value.append(piece)
                continue
            for index, segment in enumerate(piece.split("|")):
                if index:
                    parts.append((name, "".join(value)))
                    name, value = None, []
                if name is None and parts and "=" in segment:
                    before, equals, after = _split_at_equals(segment)
                    if equals:
                        name = "".join(value) + before
                        value, segment = [], after
                value.append(segment)
        parts.append((name, "".join(value)))
        return parts

    def parts(self) -> list[str]:
        """The content of a link or of `-{…}-`: the parts between pipes. To a link, {{!}} is one of them."""
        if self.kind == "-":
            self.pieces[1::2] = [piece.replace("|", PIPE) for piece in self.pieces[1::2]]
        return "".join(self.pieces).split("|")


def _arguments(content: str) -> list[Argument]:
    """The same for a template with nothing nested in it."""
    if "|" not in content:
        return [(None, content)]
    title, *parts = content.split("|")
    split = map(_split_at_equals, parts) if "\n==" in content else [part.partition("=") for part in parts]
    return [(None, title)] + [(name, value) if equals else (None, name) for name, equals, value in split]


_HEADING_LINE = re.compile(r"(?<=\n)==[^\n]*")


def _split_at_equals(part: str) -> tuple[str, str, str]:
    """`part` before and after its first equals sign; those of headings do not count."""
    if "\n==" not in part:
        return part.partition("=")
    equals = _HEADING_LINE.sub(lambda match: " " * len(match.group()), part).find("=")
    return (part, "", "") if equals < 0 else (part[:equals], "=", part[equals + 1 :])


def _parameter(arguments: list[Argument]) -> str:
    """On a page itself {{{1|default}}} shows the default, and {{{1}}} shows what is written."""
    if len(arguments) == 1:
        return "{{{" + arguments[0][1] + "}}}"
    name, value = arguments[1]
    return value if name is None else f"{name}={value}"


class _Reader:
    def __init__(self, page: "Page") -> None:
        self.page = page
        self.stack = [_Frame("", 0)]
        self.overflow = 0  # how many constructs are open beyond MAX_DEPTH
        self.braces = 0  # how many frames of kind "{" are open

    def read(self, pieces: list[str]) -> str:
        """Put together `pieces`: wikitext and brackets in turns."""
        stack, page = self.stack, self.page
        top = stack[0]
        number, last = 0, len(pieces) - 1
        while True:
            text = pieces[number]
            top.pieces[-1] = text  # what was there is the empty string that `add` leaves
            if top.kind == "[":
                top.piped = top.piped or "|" in text
            elif page.in_lead and len(stack) == 1 and len(text.strip()) > 2:
                page.in_lead = False
            if number == last:
                break
            token = pieces[number + 1]
            number += 2
            mark = token[0]
            if mark in "[{" or token == "-{":
                following = pieces[number + 1] if number < last and len(stack) <= MAX_DEPTH else ""
                if following == _CLOSING.get(token) and (mark == "{" or top.kind != "[" or top.piped):
                    shown = self._whole(mark, pieces[number])
                    number += 2
                    if shown is None and text.endswith("\n") and pieces[number][:1] in ("\n", ""):
                        top.pieces[-1] = text.rstrip()  # lines of categories alone do not part paragraphs
                    top.add(shown or "")
                    continue
                self._open(mark, len(token))
            else:
                self._close(mark, token)
            top = stack[-1]
        self._give_up(0)
        return "".join(stack[0].pieces)

    def _whole(self, mark: str, content: str) -> str | None:
        """What a template or link shows in which nothing is nested; most need no frame. None: see `link`."""
        if mark == "[":
            return link(content.split("|"), self.page)
        return self._template(content.partition("|")[0], content)

    def _open(self, mark: str, count: int) -> None:
        stack = self.stack
        top = stack[-1]
        if len(stack) > MAX_DEPTH:
            self.overflow += count // 2
            top.add("")
        elif mark == "[" and top.kind == "[" and not top.piped:  # [[a [[b]]: only the second is a link
            stack[-2].add("".join(top.pieces) + "[" * (count % 2))
            top.pieces = [""]
        else:
            if mark == "[" and count % 2:  # [[[a]]] is a link in brackets
                top.add("[")
            stack.append(_Frame(mark, count))
            self.braces += mark == "{"

    def _close(self, mark: str, token: str) -> None:
        if self.overflow:
            pairs = min(self.overflow, max(1, len(token) // 2))
            self.overflow -= pairs
            self.stack[-1].add("")
            token = token[2 * pairs :]
        if mark == "]" and token:
            self._close_links(len(token))
        elif token:
            self._close_braces(len(token.rstrip("-")), token[-1] == "-")

    def _give_up(self, level: int) -> None:
        """Take what was opened above `level` of the stack as text: it never closed.

        Each construct's text ends where the next one opens, so joining them in order is joining them once.
        """
        given_up = self.stack[level + 1 :]
        self.braces -= sum(frame.kind == "{" for frame in given_up)
        del self.stack[level + 1 :]
        self.stack[-1].add("".join(piece for frame in given_up for piece in frame.pieces))

    def _close_links(self, available: int) -> None:
        stack = self.stack
        while available >= 2 and stack[-1].kind == "[":
            if available == 3 and any("[" in piece for piece in stack[-1].pieces):  # [[a|[b]]], [[a|[http://b c]]]
                stack[-1].pieces[-1] += "]"
                available = 2
            shown = link(stack.pop().parts(), self.page)
            stack[-1].add(shown or "")
            available -= 2
        if available == 1 or not stack[-1].kind:
            stack[-1].add("]" * available)

    def _close_braces(self, available: int, dash: bool) -> None:
        """Close templates with `available` braces in a row, and `-{…}-` if a dash follows the last of them."""
        stack = self.stack
        while available >= 2 and self.braces and not (dash and stack[-1].kind == "-"):
            if stack[-1].kind != "{":
                self._give_up(next(i for i in reversed(range(len(stack))) if stack[i].kind == "{"))
            available -= self._close_template(available)
        if dash and available and stack[-1].kind == "-":
            shown = resolve(stack.pop().parts(), self.page.rules)
            stack[-1].add("}" * (available - 1) + shown)
        elif available or dash:
            stack[-1].add(("}" * available if not stack[-1].kind or available == 1 else "") + "-" * dash)

    def _close_template(self, available: int) -> int:
        """Close the template or parameter on top of the stack; return how many braces that took."""
        stack = self.stack
        frame = stack.pop()
        self.braces -= 1
        width = 3 if frame.count >= 3 and available >= 3 else 2
        shown = _parameter(frame.arguments()) if width == 3 else self._template(frame.head(), frame)
        left = frame.count - width
        if left >= 2:
            stack.append(_Frame("{", left))
            self.braces += 1
        elif left and self.page.converts and stack[-1].pieces[-1].endswith("-"):  # -{{{a}} }- is a -{ with {{a}} in it
            stack[-1].pieces[-1] = stack[-1].pieces[-1][:-1]
            stack.append(_Frame("-", 2))
        elif left:
            shown = "{" + shown
        stack[-1].add(shown)
        return width

    def _template(self, head: str | None, content: str | _Frame) -> str:
        """What the template of this name shows (None: templates are nested in it); most need no arguments for that."""
        page = self.page
        if page.deadline is not None:
            page.check_time()
        page.depth = len(self.stack)
        shown = render_head(head, page) if head is not None else None
        if shown is not None:
            return shown
        parts = _arguments(content) if isinstance(content, str) else content.arguments()
        if head is None:
            shown = render_head(parts[0][1], page)
        if shown is None:
            shown = render(parts, page)
        if shown == GONE:
            return GONE
        if ":" in parts[0][1] and _LINE_START.match(shown) and not self.stack[-1].pieces[-1].endswith("\n"):
            return f"\n{shown}"  # as in MediaWiki, a list or a table that a function gives begins a line
        if "'" in (shown[:1], shown[-1:]):
            return self._with_apostrophes(shown)
        return shown

    def _with_apostrophes(self, shown: str) -> str:
        """A single apostrophe at either end is none of the marks around the template: ''{{'}}''."""
        if shown[0] == "'" != shown[1:2]:
            shown = self.page.literal("'") + shown[1:]
        if shown[-1] == "'" != shown[-2]:
            shown = shown[:-1] + self.page.literal("'")
        return shown
