"""Wikitext to plain text: one pass over the tokens with an explicit stack, then one over the lines.

The first pass (`_Scanner`) does what MediaWiki's preprocessor does: it finds comments, extension tags
(`<ref>`, `<math>`, …), templates, links and `-{…}-`, and replaces each by what a reader sees as soon as it
closes, innermost first. The second (`_layout`) reads lines: tables, headings, lists, bold and italic.
Every step looks at each character a bounded number of times, whatever is nested or left unclosed.
"""

import html.entities
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from wikigpt.corpus.filters import few_empty_lines, single_spaces
from wikigpt.corpus.inline import SUBSCRIPT, chemical
from wikigpt.corpus.languages import (
    CATEGORY_NAMESPACES,
    DISAMBIGUATION_TITLE,
    FILE_NAMESPACES,
    LANGUAGE_CODES,
    MAGIC_WORD,
    REDIRECT,
    capital,
    words,
)
from wikigpt.corpus.marks import ANY_MARK, GONE, GONE_WITH_BRACKETS, HEADING, OWN_BRACKETS, STRIP
from wikigpt.corpus.templates import render
from wikigpt.corpus.variants import CONVERTER_LANGUAGES, FALLBACKS, Conversion, Rules, resolve
from wikigpt.errors import UserError

# MediaWiki stops expanding templates at 40 levels. Marks of constructs deeper than this are left out.
MAX_DEPTH = 100

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


@dataclass(slots=True)
class Article:
    """What one page's wikitext says."""

    text: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    categories: tuple[str, ...] = ()
    langlinks: tuple[tuple[str, str], ...] = ()
    redirect: str | None = None
    disambiguation: bool = False


@dataclass(slots=True)
class Page:
    """What is collected while a page is read; the templates' handlers see it."""

    lang: str
    title: str
    variant: str | None
    files: frozenset[str]
    category_names: frozenset[str]
    rules: Rules
    literals: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    categories: dict[str, None] = field(default_factory=dict)
    langlinks: dict[tuple[str, str], None] = field(default_factory=dict)
    disambiguation: bool = False
    in_lead: bool = True  # no running text has been seen yet
    depth: int = 1  # constructs open around the one that is being rendered, the page itself included

    def literal(self, text: str) -> str:
        """Set `text` aside, safe from everything that is still to be done; return what stands for it."""
        self.literals.append(text)
        return f"{STRIP}{len(self.literals) - 1}{STRIP}"

    def plain(self, text: str) -> str:
        """A piece of half-read wikitext (a template's argument) as one line of plain text."""
        return " ".join(_finish(_layout(text), self).split())

    def plain_lines(self, text: str) -> list[str]:
        """The same, line by line."""
        return [" ".join(line.split()) for line in _finish(_layout(text), self).split("\n")]


def clean_wikitext(text: str, *, lang: str = "en", variant: str | None = None, title: str = "") -> str:
    """Return what a reader of the page sees, as plain text.

    `lang` is the wiki's language. `variant` (zh-hans, zh-hant, zh-cn, zh-tw, zh-hk) chooses among the forms
    of `-{…}-` on Chinese wikis and converts the rest by opencc; None takes the first form and converts
    nothing. Any string is accepted; the time taken grows linearly with its length.
    """
    return read_wikitext(text, lang=lang, variant=variant, title=title).text


def read_wikitext(
    text: str,
    *,
    lang: str = "en",
    variant: str | None = None,
    title: str = "",
    file_namespaces: frozenset[str] = frozenset(),
    category_namespaces: frozenset[str] = frozenset(),
) -> Article:
    """Read a page: its text as `clean_wikitext` gives it, and its facts, categories and language links.

    The namespaces are the wiki's own names (lower case), added to those known from many languages.
    """
    if variant is not None and variant not in FALLBACKS:
        raise UserError(f"variant {variant!r} is unknown; choose one of {', '.join(FALLBACKS)}.")
    if lang.partition("-")[0] != "zh":
        variant = None
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    page = Page(
        lang=lang,
        title=title,
        variant=variant,
        files=FILE_NAMESPACES | file_namespaces,
        category_names=CATEGORY_NAMESPACES | category_namespaces,
        rules=Rules(variant),
    )
    redirect = REDIRECT.match(text)
    if redirect:
        target = redirect.group(1).partition("#")[0].strip().lstrip(":")
        return Article("", title, redirect=capital(target))
    scanned = _Scanner(text, page).run()
    body = _layout(scanned, headings=True)
    convert = Conversion(page.rules)
    body = convert(_finish(body, page, lines=True)).strip()
    shown_title = convert(page.rules.title or title, everywhere=True)
    facts = tuple(
        dict.fromkeys(
            (convert(key, everywhere=True), unicodedata.normalize("NFC", convert(value, everywhere=True)))
            for key, value in page.facts
        )
    )
    return Article(
        text=unicodedata.normalize("NFC", body),
        title=unicodedata.normalize("NFC", shown_title),
        facts=facts,
        categories=tuple(convert(name, everywhere=True) for name in page.categories),
        langlinks=tuple(page.langlinks),
        disambiguation=page.disambiguation or DISAMBIGUATION_TITLE.search(title) is not None,
    )


# First pass: comments, extension tags, templates, links, -{…}-

# Extension tags hold raw text up to their closing tag: nothing inside them is wikitext (except in poems).
_DROPPED_TAGS = words(
    """ref references gallery timeline imagemap score graph mapframe maplink hiero inputbox templatestyles
    categorytree indicator section templatedata includeonly charinsert ce-skip phonos listing"""
)
_LITERAL_TAGS = frozenset({"nowiki", "pre", "syntaxhighlight", "source"})
_MATH_TAGS = frozenset({"math", "chem", "ce"})
_RAW_TAGS = "|".join(sorted(_DROPPED_TAGS | _LITERAL_TAGS | _MATH_TAGS | {"poem"}, key=len, reverse=True))

_TAG = rf"<(?=[a-z])(?:{_RAW_TAGS})(?=[\s/>])"
_COMMON = rf"\{{\{{+|\}}\}}+|\[\[|\]\]|<!--|{_TAG}"
_CONVERTER = r"|-\{(?!\{)|\}-"
_SEARCH: dict[tuple[bool, str], Callable[..., re.Match[str] | None]] = {
    (converts, kind): re.compile(_COMMON + (_CONVERTER if converts else "") + extra, re.IGNORECASE).search
    for converts in (False, True)
    for kind, extra in (("", ""), ("[", r"|\|"), ("-", r"|\|"), ("{", r"|\||="))
}
_TAG_HEAD = re.compile(r"<([a-z]+)([^<>]*?)(/?)>", re.IGNORECASE)


class _Frame:
    """An opened construct: the parts that `|` has ended, and the pieces of the one being read."""

    __slots__ = ("count", "key", "kind", "parts", "pieces")

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind  # "" for the page itself, else "{", "[" or "-"
        self.count = count  # braces in a row, for "{"
        self.parts: list[tuple[str | None, str]] = []
        self.key: str | None = None
        self.pieces: list[str] = []

    def end_part(self) -> None:
        self.parts.append((self.key, "".join(self.pieces)))
        self.key = None
        self.pieces = []

    def flat(self) -> str:
        """The content of a construct that never closed, without its opening mark."""
        self.end_part()
        return "|".join(value if key is None else f"{key}={value}" for key, value in self.parts)


class _Scanner:
    def __init__(self, text: str, page: Page) -> None:
        self.text = text
        self.page = page
        self.converts = page.lang.partition("-")[0] in CONVERTER_LANGUAGES
        self.stack = [_Frame("", 0)]
        self.overflow = 0  # how many constructs are open beyond MAX_DEPTH
        self.braces = 0  # how many frames of kind "{" are open
        self.unclosed: set[str] = set()  # closing marks that do not occur any more: do not search again

    def run(self) -> str:
        text, stack = self.text, self.stack
        top = stack[-1]
        search = _SEARCH[self.converts, ""]
        position = 0
        while match := search(text, position):
            start = match.start()
            if start > position:
                top.pieces.append(text[position:start])
                if len(stack) == 1 and self.page.in_lead and len(text[position:start].strip()) > 2:
                    self.page.in_lead = False
            token = match.group()
            mark = token[0]
            position = match.end()
            if mark == "|":
                top.end_part()
                continue
            if mark == "=":
                if top.parts and top.key is None:
                    top.key = "".join(top.pieces).strip()
                    top.pieces = []
                else:
                    top.pieces.append("=")
                continue
            if mark == "<":
                position = self._tag(token, start)
                continue
            if mark in "[{" or token == "-{":
                if len(stack) > MAX_DEPTH:
                    self.overflow += len(token) // 2
                    continue
                if mark == "[" and top.kind == "[" and not top.parts:
                    stack[-2].pieces += top.pieces  # [[a [[b]]: only the second is a link
                    top.pieces = []
                    continue
                stack.append(_Frame(mark, len(token)))
                self.braces += mark == "{"
            elif self.overflow:
                pairs = min(self.overflow, len(token) // 2)
                self.overflow -= pairs
                position = start + (2 * pairs if len(token) - 2 * pairs > 1 else len(token))
                continue
            elif mark == "]":
                if top.kind != "[":
                    top.pieces.append(token if top.kind == "" else "")
                    continue
                self._close_link()
            elif token == "}-":
                if top.kind != "-":
                    top.pieces.append(token)
                    continue
                self._close_variant()
            else:
                position = self._close_braces(start, len(token))
            top = stack[-1]
            search = _SEARCH[self.converts, top.kind]
        top.pieces.append(text[position:])
        self._give_up(0)
        return "".join(stack[0].pieces)

    # -- tags ---------------------------------------------------------------------------------------------

    def _tag(self, token: str, start: int) -> int:
        """Handle the comment or extension tag at `start`; return where to read on."""
        text, pieces = self.text, self.stack[-1].pieces
        if token == "<!--":
            end = self._find("-->", start + 4)
            return len(text) if end < 0 else end + 3
        head = _TAG_HEAD.match(text, start)
        if head is None:
            pieces.append("<")
            return start + 1
        name, attributes, slash = head.group(1).lower(), head.group(2), head.group(3)
        if slash:
            return head.end()
        closing = f"</{name}"
        end = self._find(closing, head.end())
        if end < 0:  # never closed: MediaWiki shows the tag, we read on behind it
            return head.end()
        content = text[head.end() : end]
        after = text.find(">", end)
        after = len(text) if after < 0 else after + 1
        if name in _MATH_TAGS:
            pieces.append(self.page.literal(_math(name, attributes, content)))
        elif name == "nowiki":
            pieces.append(self.page.literal(decode_entities(content)))
        elif name in _LITERAL_TAGS:
            code = decode_entities(content).strip("\n")
            inline = name != "pre" and "inline" in attributes
            literal = self.page.literal(code)
            pieces.append(literal if inline or ("\n" not in code and name != "pre") else f"\n\n{literal}\n\n")
        elif name == "poem":
            inner = _Scanner(content, self.page)  # poems do not nest, so this goes one level deep
            lines = inner.run().strip("\n") if "<poem" not in content.lower() else content
            pieces.append(f"\n\n{lines}\n\n")
        return after

    def _find(self, closing: str, start: int) -> int:
        """Where `closing` (lower case) next occurs; remembers when it does not, to stay linear."""
        if closing in self.unclosed:
            return -1
        if closing == "-->":
            end = self.text.find(closing, start)
        else:
            found = _closing_tag(closing).search(self.text, start)
            end = found.start() if found else -1
        if end < 0:
            self.unclosed.add(closing)
        return end

    # -- constructs that close ----------------------------------------------------------------------------

    def _pop(self) -> _Frame:
        frame = self.stack.pop()
        frame.end_part()
        return frame

    def _give_up(self, level: int) -> None:
        """Take what was opened above `level` of the stack as plain text: it never closed.

        Each construct's text ends where the next one opens, so joining them in order is joining them once.
        """
        texts = [frame.flat() for frame in self.stack[level + 1 :]]
        self.braces -= sum(frame.kind == "{" for frame in self.stack[level + 1 :])
        del self.stack[level + 1 :]
        self.stack[-1].pieces += texts

    def _close_link(self) -> None:
        parts = [value for _, value in self._pop().parts]
        self.stack[-1].pieces.append(_link(parts, self.page))

    def _close_variant(self) -> None:
        parts = [value for _, value in self._pop().parts]
        self.stack[-1].pieces.append(resolve(parts, self.page.rules))

    def _close_braces(self, start: int, available: int) -> int:
        """Close templates with the run of `}` at `start`; return where to read on."""
        stack = self.stack
        if stack[-1].kind != "{":
            if not self.braces:
                stack[-1].pieces.append("" if stack[-1].kind else "}" * available)
                return start + available
            self._give_up(next(i for i in reversed(range(len(stack))) if stack[i].kind == "{"))
        used = 0
        while available - used >= 2 and stack[-1].kind == "{":
            frame = self._pop()
            self.braces -= 1
            width = 3 if frame.count >= 3 and available - used >= 3 else 2
            used += width
            if width == 3:  # {{{1|default}}}: on a page itself, the default
                key, value = frame.parts[1] if len(frame.parts) > 1 else (None, "")
                rendered = value if key is None else f"{key}={value}"
            else:
                self.page.depth = len(stack)
                rendered = render(frame.parts, self.page)
            left = frame.count - width
            if left >= 2:
                outer = _Frame("{", left)
                outer.pieces.append(rendered)
                stack.append(outer)
                self.braces += 1
            else:
                stack[-1].pieces.append("{" * left + rendered)
        return start + used


@cache
def _closing_tag(closing: str) -> re.Pattern[str]:
    return re.compile(re.escape(closing) + r"(?=[\s>])", re.IGNORECASE)


def _math(name: str, attributes: str, content: str) -> str:
    """TeX between dollar signs; chemical formulas with their numbers lowered."""
    formula = " ".join(content.split())
    if not formula:
        return ""
    if name != "math" and "\\" not in formula:
        return chemical(formula)
    # Braces apart: the same to TeX, and nobody downstream takes them for templates.
    return f"${_PAIRED.sub(' ', decode_entities(formula))}$"


_PAIRED = re.compile(r"(?<=\{)(?=\{)|(?<=\})(?=\})|(?<=-)(?=\{)|(?<=\})(?=-)|(?<=\[)(?=\[)|(?<=\])(?=\])")

_MEDIA = frozenset({"media", "媒体文件", "媒體檔案", "メディア", "medium", "média", "medio"})
# Aliases of the file namespace are not in siteinfo; the file's name gives them away.
_FILE_NAME = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gav]|webm|mp3|wav|flac|midi?|pdf|djvu|stl)\Z", re.I)
_NOT_IN_TITLES = re.compile(r"[\[\]{}<>\n]")
_PIPE_TRICK = re.compile(r"\s*[(（][^()（）]*[)）]\s*\Z")


def _link(parts: list[str], page: Page) -> str:
    """What a reader sees of [[target|text]]; categories and language links are noted and vanish."""
    target = parts[0].strip()
    prefix, colon, rest = target.partition(":")
    if colon and prefix:
        name = " ".join(prefix.lower().replace("_", " ").split())
        if name in _MEDIA:
            return parts[-1] if len(parts) > 1 else rest
        if name in page.files or _FILE_NAME.search(target):
            return ""
        if name in page.category_names:
            category = capital(page.plain(rest))
            if category:
                page.categories[category] = None
            return ""
        if len(parts) == 1 and name in LANGUAGE_CODES and name != page.lang and "\n" not in rest:
            page.langlinks[name, capital(ANY_MARK.sub("", rest))] = None
            return ""
    if len(parts) == 1:
        if _NOT_IN_TITLES.search(target) and STRIP not in target:
            return f"[[{parts[0]}]]" if "\n" not in target else parts[0]
        shown = target.lstrip(":")
        return shown[1:].rstrip("/") if shown.startswith("/") else shown
    shown = "|".join(parts[1:])
    if shown.strip():
        return shown
    if parts[1:] == [""]:  # [[title (of something)|]]
        return _PIPE_TRICK.sub("", target.rpartition(":")[2])
    return ""


# Second pass: lines

_HTML_TAG = re.compile(
    r"<(?=[a-z/])(/?)(abbr|acronym|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|data|dd|del|dfn|div|dl|dt|em|"
    r"font|h[1-6]|hr|i|ins|kbd|li|link|mark|meta|noinclude|nowiki|ol|onlyinclude|includeonly|p|q|rb|rp|rt|rtc|"
    r"ruby|s|samp|section|small|source|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|time|tr|"
    r"translate|tt|u|ul|var|wbr|ref|references|nobr|poem|pre|math|gallery)\b([^<>]*)>",
    re.IGNORECASE,
)
_BREAKING = words("""blockquote br center dd div dl dt hr li ol p table td th tr ul h1 h2 h3 h4 h5 h6""")
_VOID = frozenset({"br", "hr", "wbr", "link", "meta"})
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SUPERSCRIPT = str.maketrans("0123456789+-−=()nix", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱˣ")
_SUPERSCRIPT_ONLY = re.compile(r"(?:[0-9+\-−=()]+|[nix])\Z")
_SUBSCRIPT_ONLY = re.compile(r"[0-9+\-−=()]+\Z")
_EXTERNAL = re.compile(r"\[((?:https?:|ftp:|s?news:|irc:|mailto:|tel:)?//[^\s\[\]<>\"]*|mailto:[^\s\[\]<>\"]+)", re.I)
_HEADING = re.compile(r"(={1,6})(.+?)(={1,6})\s*\Z")
_STRAY_PARAMETER = re.compile(r"\s*\|\s*[\w .'-]{1,40}=")


def _layout(text: str, *, headings: bool = False) -> str:
    """Read line by line: drop tables, turn headings and lists into their plain form, undo quotes."""
    out: list[tuple[int, str]] = []  # level of the heading (0 for text) and the line
    tables = 0
    broken_table = False
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped:
            if not tables:
                out.append((0, ""))
            continue
        first = stripped[0]
        if first in "{|:*#!" or tables:
            start = stripped.lstrip(":*# ") if first in ":*#" else stripped
            if start.startswith("{|"):
                tables += 1
                continue
            if tables:
                if stripped.startswith("|}"):
                    tables -= 1
                    if not tables and stripped[2:].strip():
                        out.append((0, _quotes(stripped[2:].strip())))
                    continue
                heading = _HEADING.match(stripped) if first == "=" else None
                if heading is None:
                    continue
                tables, broken_table = 0, True  # the table was never closed
            if stripped.startswith(("|-", "|}", "|+")) and not broken_table:
                broken_table = True  # the table was opened by a template that we do not know
                while out and out[-1][1].startswith(("!", "|")):
                    out.pop()
            if broken_table and first in "|!":
                broken_table = not stripped.startswith("|}")
                continue
            if first == "|" and _STRAY_PARAMETER.match(stripped):
                continue
        if first == "=" and (heading := _HEADING.match(stripped)):
            level = min(len(heading.group(1)), len(heading.group(3)))
            # More marks on one side than on the other belong to the text, which nobody wants to see.
            name = _quotes(heading.group(2).strip(" ="))
            out.append((level, name))
            continue
        if first in "*#:;":
            out.append((0, _list_item(stripped)))
        elif stripped.startswith("----"):
            out.append((0, stripped.lstrip("-").strip()))
        else:
            out.append((0, _quotes(stripped)))
        if "]]" in stripped or "}}" in stripped:
            out[-1] = (out[-1][0], _without_strays(out[-1][1]))
    if not headings:
        return "\n".join(line for _, line in out)
    return "\n".join(_with_headings(out))


def _with_headings(lines: list[tuple[int, str]]) -> Iterator[str]:
    """Write headings as `## …`; `_finish` drops those that nothing follows."""
    for level, line in lines:
        if level:
            yield f"\n{HEADING}{'#' * max(2, level)} {line}\n"
        else:
            yield line


def _without_strays(line: str) -> str:
    """Remove closing marks that nothing on the line opens (but leave `a[b[0]]`)."""
    for opening, closing in ("[]", "{}"):
        if line.count(closing) > line.count(opening):
            line = line.replace(closing * 2, "")
    return line


def _list_item(line: str) -> str:
    content = line.lstrip("*#:;")
    marks = line[: len(line) - len(content)]
    content = _quotes(content.strip())
    if not content:
        return ""
    if marks[-1] in "*#":
        return f"- {content}"
    return content


def _quotes(line: str) -> str:
    """Remove the marks of bold and italic text, but not apostrophes (MediaWiki's doQuotes)."""
    if "''" not in line:
        return line
    pieces = re.split(r"('{2,})", line)
    bold = italic = 0
    for i in range(1, len(pieces), 2):
        size = len(pieces[i])
        if size == 4 or size > 5:  # four: an apostrophe and bold; six and more: apostrophes and both
            extra = size - (3 if size == 4 else 5)
            pieces[i - 1] += "'" * extra
            size = 3 if size == 4 else 5
            pieces[i] = "'" * size
        italic += size != 3
        bold += size != 2
    if bold % 2 and italic % 2:
        # One ''' is an apostrophe before italics: L'''amour'' . MediaWiki takes the first after a
        # one-letter word, else after a longer word, else after a space.
        after_letter = after_word = after_space = 0
        for i in range(1, len(pieces), 2):
            if len(pieces[i]) == 3:
                before = pieces[i - 1]
                if before[-1:] == " ":
                    after_space = after_space or i
                elif before[-2:-1] == " ":
                    after_letter = i
                    break
                else:
                    after_word = after_word or i
        chosen = after_letter or after_word or after_space
        if chosen:
            pieces[chosen - 1] += "'"
    return "".join(pieces[::2])


# What is the same for whole pages and for single values

_INVISIBLE = re.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_ENTITY = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")
_STRIPPED = re.compile(rf"{STRIP}([0-9]+){STRIP}")
_LEFT = r"\s,;:、，；：·/\x05"
_EMPTY_BRACKETS = re.compile(rf"[(（\[［]([{_LEFT}]+)[)）\]］]")
_BRACKET_START = re.compile(rf"([(（])([{_LEFT}]{{1,40}})")
_BRACKET_END = re.compile(r"([\s,;、，；\x05]{1,40})([)）])")
_LABEL_LEFT = re.compile(r"[^\s()（），,;；:：\x00-\x08\x7f]{1,12}[:：]\s?\x05+\s*(?=[)），,;；、])")
_TWICE = re.compile(r"([,，、;；])([ \x05]{0,10})\1")
_BEFORE_MARK = re.compile(r" {1,5}\x05[ \x05]{0,10}(?=[,.;:!?，。；：！？、)）])")
_WITH_BRACKETS = re.compile(r"[ ]?[(（][^()（）\n\x0e]{0,200}\x0e[^()（）\n]{0,200}[)）]")
_DOUBLE_BRACKETS = re.compile(rf"（{OWN_BRACKETS}（([^（）\n]{{0,200}})））")  # （{{{{bd|…}}}}）


def _finish(text: str, page: Page, *, lines: bool = False) -> str:
    """HTML, external links, entities, spaces and what dropped templates left behind; literals put back."""
    if "<" in text:
        text = strip_html(text)
    if "[" in text:
        text = _external_links(text)
    if "__" in text:
        text = MAGIC_WORD.sub("", text)
    if "&" in text:
        text = decode_entities(text)
    if GONE_WITH_BRACKETS in text:
        text = _WITH_BRACKETS.sub(GONE, text).replace(GONE_WITH_BRACKETS, GONE)
    if GONE in text:
        text = _mend(text)
    text = single_spaces(_INVISIBLE.sub("", text))
    if OWN_BRACKETS in text:
        text = _DOUBLE_BRACKETS.sub(r"（\1）", text).replace(OWN_BRACKETS, "")
    if lines:
        text = _drop_empty_sections([line.strip() for line in text.split("\n")])
    if STRIP in text:
        text = _STRIPPED.sub(lambda match: page.literals[int(match.group(1))], text)
    return text.strip() if lines else text


def _drop_empty_sections(lines: list[str]) -> str:
    kept: list[str] = []
    below = 0  # level of the heading that follows; 7 when text does; 0 at the end of the page
    for line in reversed(lines):
        if line.startswith(HEADING):
            line = line[1:]
            level = len(line) - len(line.lstrip("#"))
            if below <= level or not line.strip("# "):
                continue
            below = level
        elif line:
            if line == "-":
                continue
            below = 7
        kept.append(line)
    text = "\n".join(reversed(kept)).replace(HEADING, "")
    return few_empty_lines(text).strip()


def strip_html(text: str, *, hiding: bool = True) -> str:
    """Remove HTML tags, and with them tables and what is hidden; raise and lower what is in sup and sub."""
    out: list[str] = []
    position = 0
    hidden, depth = "", 0  # name of the tag whose content is hidden, and how many of that name are open
    before = (0, 0)  # where the hidden part starts, in `text` and in `out`
    raised: tuple[str, int] | None = None  # an open <sup> or <sub> and where its text starts in `out`
    for match in _HTML_TAG.finditer(text):
        closing, name, attributes = match.group(1), match.group(2).lower(), match.group(3)
        if not hidden:
            out.append(text[position : match.start()])
        position = match.end()
        if hidden:
            if name == hidden and not attributes.endswith("/"):
                depth += -1 if closing else 1
                hidden = hidden if depth else ""
            continue
        if hiding and not closing and _hides(name, attributes):
            hidden, depth = name, 1
            before = position, len(out)
            out.append("" if name == "rp" else GONE)
        elif name == "li":
            out.append("" if closing else "\n- ")
        elif name in _BREAKING:
            out.append("\n" if name not in ("td", "th") else " ")
        elif name in ("sup", "sub"):
            if not closing:
                raised = (name, len(out))
            elif raised and raised[0] == name:
                inner = "".join(out[raised[1] :])
                out[raised[1] :] = [_raise(inner, name)]
                raised = None
        elif name == "rt":
            out.append(")" if closing else "(")
        elif name == "q":
            out.append('"')
    if hidden:  # it never ends: better to show it than to lose the rest of the page
        out[before[1] :] = [strip_html(text[before[0] :], hiding=False)]
    else:
        out.append(text[position:])
    return "".join(out)


def _hides(name: str, attributes: str) -> bool:
    """Whether what is inside this tag is not shown, or is a table, or brackets for browsers without ruby."""
    if name in ("table", "rp"):
        return True
    return bool(attributes) and name not in _VOID and attributes[-1] != "/" and _HIDDEN.search(attributes) is not None


def _raise(text: str, name: str) -> str:
    stripped = text.strip()
    if name == "sup" and _SUPERSCRIPT_ONLY.match(stripped):
        return stripped.translate(_SUPERSCRIPT)
    if name == "sub" and _SUBSCRIPT_ONLY.match(stripped):
        return stripped.translate(SUBSCRIPT)
    return text


def _external_links(text: str) -> str:
    """[http://… text] shows its text; without text it shows a number, which nobody needs."""
    out: list[str] = []
    position = 0
    line_end = bracket = -1
    for match in _EXTERNAL.finditer(text):
        if match.start() < position:
            continue
        if line_end < match.end():
            line_end = text.find("\n", match.end())
            line_end = len(text) if line_end < 0 else line_end
        if bracket < match.end():
            bracket = text.find("]", match.end())
            if bracket < 0:
                break
        if bracket > line_end:
            continue
        out.append(text[position : match.start()])
        out.append(text[match.end() : bracket].strip() or GONE)
        position = bracket + 1
    out.append(text[position:])
    return "".join(out)


def decode_entities(text: str) -> str:
    """&amp; -> &, &#8211; -> –; what is no entity stays as it is."""
    return _ENTITY.sub(_entity, text)


def _entity(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return html.entities.html5.get(f"{name};", match.group())
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if code in (9, 10, 0xA0) or 0x20 <= code < 0x7F or 0xA0 < code < 0xD800 or 0xE000 <= code < 0x110000:
        return chr(code) if code & 0xFFFE != 0xFFFE else ""
    return match.group() if code >= 0x110000 else ""


def _mend(text: str) -> str:
    """Remove the brackets, labels and commas that dropped constructs leave empty."""
    return "\n".join(_mend_line(line) if GONE in line else line for line in text.split("\n"))


def _mend_line(line: str) -> str:
    if line.strip(GONE + " -.,;:。，；：、") == "":
        return ""
    line = _LABEL_LEFT.sub(GONE, line)
    line = _EMPTY_BRACKETS.sub(lambda m: GONE if GONE in m.group(1) else m.group(), line)
    line = _BRACKET_START.sub(lambda m: m.group(1) if GONE in m.group(2) else m.group(), line)
    line = _BRACKET_END.sub(lambda m: m.group(2) if GONE in m.group(1) else m.group(), line)
    line = _TWICE.sub(lambda m: m.group(1) if GONE in m.group(2) else m.group(), line)
    return _BEFORE_MARK.sub("", line).replace(GONE, "")
