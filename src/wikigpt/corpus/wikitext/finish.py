"""Fourth stage: HTML, links to the outside, entities and spaces, and what dropped constructs leave behind."""

import html.entities
import re
from collections.abc import Callable

from wikigpt.corpus.languages import words
from wikigpt.corpus.wikitext.inline import SUBSCRIPT
from wikigpt.corpus.wikitext.kernels import matches, replaced, tidied
from wikigpt.corpus.wikitext.marks import (
    GONE,
    GONE_WITH_BRACKETS,
    KEEP_CLOSE,
    KEEP_OPEN,
    OWN_BRACKETS,
    RULE,
    ZERO,
)
from wikigpt.corpus.wikitext.tables import CELL_SEPARATOR

_RULES_ALONE = re.compile(rf"\n([{ZERO}{RULE}]+) *(?=\n)")


# Switches such as __NOTOC__ and __KEIN_INHALTSVERZEICHNIS__: the English ones in any case, those of other languages
# by having no small letters.
_SWITCH = re.compile(r"__([^\W\d_]{2,40}(?:_[^\W\d_]{1,40}){0,4})__")
_ENGLISH_SWITCHES = words(
    """notoc forcetoc toc noeditsection nogallery noindex nocc notc nocontentconvert notitleconvert nonewsectionlink
    notalk index newsectionlink hiddencat staticredirect disambig expectunusedcategory expectunusedtemplate
    archivedtalk"""
)
# Written alike, but programming.
_MACROS = re.compile(
    r"(?:FILE|LINE|DATE|TIME|FUNCTION|COUNTER|DIR|CLASS|METHOD|NAMESPACE|DATA|END|(?:STDC|VA)(?:_\w+)?)\Z"
)


def finish(text: str, *, keep_tables: bool = False, keep_code: bool = False) -> str:
    """Turn laid-out wikitext into plain text, but for the literals that are still set aside.

    With `keep_code`, what is in <code> is marked as not to be converted to another script.
    """
    if "[" in text:
        text = _external_links(text)
    if "<" in text:
        text = strip_html(text, keep_tables=keep_tables, keep_code=keep_code)
    if "_" in text:
        text = _SWITCH.sub(_without_switch, text)
    if "&" in text:
        text = decode_entities(text)
    if GONE_WITH_BRACKETS in text:
        text = _around(GONE_WITH_BRACKETS, 220, text, _without_brackets)
    if GONE in text:
        text = _around(GONE, 60, replaced(_HARMLESS, GONE, lambda match: "", text), _mended)
    if OWN_BRACKETS in text:
        text = _DOUBLE_BRACKETS.sub(r"（\1）", text).replace(OWN_BRACKETS, "")
    if RULE in text:
        text = _rules_before(text)
    if "\t" in text:
        text = text.replace("\t", " ")
    return tidied(text)


def _rules_before(text: str) -> str:
    """Conversion rules that have a line to themselves go to the end of the line before."""
    out: list[str] = []
    position = 0
    for match in _RULES_ALONE.finditer(text):
        before = text[position : match.start()]
        line = before.rstrip("\n")
        out += (line, match.group(1), before[len(line) :], "\n")
        position = match.end()
    return "".join((*out, text[position:]))


def _without_switch(match: re.Match[str]) -> str:
    name = match.group(1)
    switch = name.lower() in _ENGLISH_SWITCHES or (name == name.upper() and not _MACROS.match(name))
    return "" if switch else match.group()


_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*+)(?=[\s/>])([^<>]*+)>", re.IGNORECASE)
_KNOWN = words(
    """abbr acronym b bdi bdo big blockquote br caption center cite code data dd del dfn div dl dt em font h1 h2 h3 h4
    h5 h6 hr i ins kbd li link mark meta noinclude nowiki ol onlyinclude includeonly p q rb rp rt rtc ruby s samp
    section small source span strike strong sub sup table tbody td tfoot th thead time tr translate tt u ul var
    wbr ref references nobr poem pre math chem ce gallery syntaxhighlight timeline score imagemap tvar"""
)
_BREAKING = words("""blockquote br center div hr p pre h1 h2 h3 h4 h5 h6""")
_ROWS = words("""caption table tbody tfoot thead tr""")
_ITEMS = words("""dd dl dt li ol ul""")
_VOID = frozenset({"br", "hr", "wbr", "link", "meta"})
# Not shown, or (by the class that most wikis use) a caption, a notice, or a box for navigation.
_HIDDEN = re.compile(
    r"display\s*:\s*none|class\s*=[\s\"']*(?:[\w-]+\s+)*?"
    r"(?:thumb(?:caption|inner|image)?|navbox|infobox|metadata|noprint|[acftio]?mbox)(?=[\s\"']|\Z)",
    re.IGNORECASE,
)
_SUPERSCRIPT = str.maketrans("0123456789+-−=()nix", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱˣ")
_SUPERSCRIPT_ONLY = re.compile(r"(?:[0-9+\-−=()]+|[nix])\Z")
_SUBSCRIPT_ONLY = re.compile(r"[0-9+\-−=()]+\Z")


def strip_html(text: str, *, hiding: bool = True, keep_tables: bool = False, keep_code: bool = False) -> str:
    """Remove HTML tags, and with them tables and what is hidden; raise and lower what is in sup and sub."""
    out: list[str] = []
    position = 0
    hidden, depth = "", 0  # name of the tag whose content is hidden, and how many of that name are open
    before = (0, 0)  # where the hidden part starts, in `text` and in `out`
    raised: tuple[str, int] | None = None  # an open <sup> or <sub> and where its text starts in `out`
    in_cell = False  # in a row of a table that is kept
    for match in matches(_TAG, "<", text):
        closing, name, attributes = match.groups()
        name = name.lower()
        if name not in _KNOWN:
            continue
        if not hidden:
            before_tag = text[position : match.start()]
            if before_tag:
                out.append(before_tag.replace("\n", " ") if in_cell else before_tag)
        position = match.end()
        if hidden:
            if name == hidden and not attributes.endswith("/"):
                depth += -1 if closing else 1
                hidden = hidden if depth else ""
            continue
        if hiding and not closing and _hides(name, attributes, keep_tables):
            hidden, depth = name, 1
            before = position, len(out)
            out.append("" if name == "rp" else GONE)
        elif name in ("td", "th"):
            if keep_tables and not closing:
                _begin_cell(out, separated=in_cell)
                in_cell = True
            elif not closing:
                out.append(" ")
        elif in_cell and (name in _BREAKING or name in _ITEMS):
            out.append(" ")
        elif name in _ROWS or name in _ITEMS:
            in_cell = False
            _begin_line(out)
            if text.startswith("\n", position):
                position += 1
            if name == "li" and not closing:
                out.append("- ")
        elif name in _BREAKING:
            out.append("\n")
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
        elif name == "code" and keep_code:
            out.append(KEEP_CLOSE if closing else KEEP_OPEN)
    if hidden:  # it never ends: better to show it than to lose the rest of the page
        out[before[1] :] = [strip_html(text[before[0] :], hiding=False, keep_code=keep_code)]
    else:
        out.append(text[position:])
    return "".join(out)


def _begin_line(out: list[str]) -> None:
    """Begin a line, unless nothing stands on this one yet."""
    last = next((shown for piece in reversed(out[-3:]) if (shown := piece[-40:].rstrip(" "))), "")
    if not last.endswith("\n"):
        out.append("\n")


def _begin_cell(out: list[str], *, separated: bool) -> None:
    """Part two cells of a row; empty ones are left out."""
    while out and out[-1].isspace() and "\n" not in out[-1]:
        out.pop()
    if separated and out and not out[-1].endswith(("\n", CELL_SEPARATOR)):
        out[-1] = out[-1].rstrip(" ")
        out.append(CELL_SEPARATOR)


def _hides(name: str, attributes: str, keep_tables: bool) -> bool:
    """Whether what is inside this tag is not shown, or is a table, or brackets for browsers without ruby."""
    if name == "rp" or (name == "table" and not keep_tables):
        return True
    return bool(attributes) and name not in _VOID and attributes[-1] != "/" and _HIDDEN.search(attributes) is not None


def _raise(text: str, name: str) -> str:
    stripped = text.strip()
    if name == "sup" and _SUPERSCRIPT_ONLY.match(stripped):
        return stripped.translate(_SUPERSCRIPT)
    if name == "sub" and _SUBSCRIPT_ONLY.match(stripped):
        return stripped.translate(SUBSCRIPT)
    return text


_EXTERNAL = re.compile(
    r"\[(?:(?:(?:https?|ftps?|sftp|ircs?|gopher|git|svn|ssh|telnet|mms|nntp|redis|worldwind):)?//(?:\[[0-9a-f:.]++\]|[^][\s<>\"])|"
    r"(?:mailto|news|tel|urn|sips?|sms|xmpp|geo|magnet|bitcoin|matrix):[^][\s<>\"])[^][\s<>\"]*+",
    re.IGNORECASE,
)


def _external_links(text: str) -> str:
    """[http://… text] shows its text; without text it shows a number, which nobody needs."""
    out: list[str] = []
    position = 0
    line_end = bracket = -1
    for match in matches(_EXTERNAL, "[", text):
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


_ENTITY = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")


def decode_entities(text: str) -> str:
    """&amp; -> &, &#8211; -> –; what is no entity, or no character that HTML allows, stays as it is."""
    return replaced(_ENTITY, "&", _entity, text) if "&" in text else text


def _entity(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return html.entities.html5.get(f"{name};", match.group())
    code = int(decimal) if decimal else int(hexadecimal, 16)
    allowed = code in (9, 10, 13) or 0x20 <= code < 0x7F or 0xA0 <= code < 0xD800 or 0xE000 <= code < 0x110000
    if not allowed or code & 0xFFFE == 0xFFFE:
        return match.group()
    return chr(code) if code != 13 else "\n"


_LEFT = r"\s,;:、，；：·/\x05"
# Between words, or alone on its line, nothing is left behind: most marks go without a look around them.
_HARMLESS = re.compile(
    rf"\x05(?:(?<![{_LEFT}(（[［]\x05)\x05*(?![\s,;、，；]*[)）])|(?:(?<=\n\x05)|(?<=\n-[ ]\x05))[ .\x05]*(?=\n))"
)
_EMPTY_BRACKETS = re.compile(rf"[(（\[［]([{_LEFT}]+)[)）\]］]")
_BRACKET_START = re.compile(rf"([(（])([{_LEFT}]{{1,40}})")
_BRACKET_END = re.compile(r"([\s,;、，；\x05]{1,40})([)）])")
_LABEL_LEFT = re.compile(r"[^\s()（），,;；:：\x00-\x08\x7f]{1,12}[:：]\s?\x05+\s*(?=[)），,;；、])")
_TWICE = re.compile(r"([,，、;；])([ \x05]{0,10})\1")
_BEFORE_MARK = re.compile(r" {1,5}\x05[ \x05]{0,10}(?=[,.;:!?，。；：！？、)）])")
_WITH_BRACKETS = re.compile(r"[ ]?[(（][^()（）\n\x0e]{0,200}\x0e[^()（）\n]{0,200}[)）]")
_DOUBLE_BRACKETS = re.compile(rf"（{OWN_BRACKETS}（([^（）\n]{{0,200}})））")  # （{{{{bd|…}}}}）


def _around(mark: str, reach: int, text: str, repair: Callable[[str], str]) -> str:
    """Repair the stretches of lines up to `reach` characters before and behind each `mark`."""
    out: list[str] = []
    position = line_end = 0
    while (found := text.find(mark, position)) >= 0:
        if line_end <= found:
            line_end = text.find("\n", found)
            line_end = len(text) if line_end < 0 else line_end
        start = max(position, found - reach)
        start = max(start, text.rfind("\n", start, found) + 1)
        end = min(line_end, found + reach)
        while (last := text.rfind(mark, found + 1, min(line_end, end + reach))) > found:
            found, end = last, min(line_end, last + reach)
        out += (text[position:start], repair(text[start:end]))
        position = end
    out.append(text[position:])
    return "".join(out)


def _without_brackets(stretch: str) -> str:
    """Drop brackets that say nothing without what was dropped from them."""
    return _WITH_BRACKETS.sub(GONE, stretch).replace(GONE_WITH_BRACKETS, GONE)


def _mended(stretch: str) -> str:
    """Remove the brackets, labels and commas that dropped constructs leave empty."""
    if stretch.strip(GONE + " -.,;:。，；：、") == "":
        return ""
    stretch = _LABEL_LEFT.sub(GONE, stretch)
    stretch = _EMPTY_BRACKETS.sub(lambda m: GONE if GONE in m.group(1) else m.group(), stretch)
    stretch = _BRACKET_START.sub(lambda m: m.group(1) if GONE in m.group(2) else m.group(), stretch)
    stretch = _BRACKET_END.sub(lambda m: m.group(2) if GONE in m.group(1) else m.group(), stretch)
    stretch = _TWICE.sub(lambda m: m.group(1) if GONE in m.group(2) else m.group(), stretch)
    return _BEFORE_MARK.sub("", stretch).replace(GONE, "")
