"""What {{…}} stands for: a parser function, a variable, a template of the table, an infobox, or nothing.

The table is `templates.toml`; a rule of it, or of a recipe, is compiled to a function once.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import COUNTRIES, DISAMBIGUATION_TEMPLATES, names_in
from wikigpt.corpus.wikitext.functions import VARIABLES, call_function
from wikigpt.corpus.wikitext.infobox import is_infobox, may_be_infobox, note_facts
from wikigpt.corpus.wikitext.inline import HANDLERS, Call, Handler
from wikigpt.corpus.wikitext.marks import ANY_MARK, GONE, GONE_WITH_BRACKETS
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

MAX_NAME = 120  # characters; MediaWiki allows 255 bytes
MAX_REPEATED = 10_000  # characters that a rule may show which shows an argument twice: nested, it doubles each time


def render(parts: list[tuple[str | None, str]], page: "Page") -> str:
    """The wikitext that {{…}} stands for; `parts` are (key or None, value), the name first.

    For those templates of which `render_head` cannot tell.
    """
    head = parts[0][1]
    own_rules = page.rules_by_name
    handler = find(normal_name(head), own_rules) if own_rules and len(head) <= 2 * MAX_NAME else None
    if handler is None:
        if ":" in head:
            shown = call_function(head, parts, page)
            if shown is not None:
                return shown
        if len(head) > 2 * MAX_NAME:
            return GONE
        handler = _find(head, page.lang)
    name = normal_name(head)
    if handler is None:
        if not is_infobox(name, sum(key is not None for key, _ in parts), page):
            return GONE
        handler = _infobox
    arguments: dict[str, str] = {}
    number = 0
    for key, value in parts[1:]:
        if key is None:
            number += 1
            arguments[str(number)] = value
        else:
            arguments[key.strip()] = value
    return handler(Call(name, arguments, page))


def render_head(head: str, page: "Page") -> str | None:
    """The wikitext, if the name alone tells, as that of most templates does; their arguments need no taking apart."""
    if page.rules_by_name or ":" in head or len(head) > 2 * MAX_NAME:
        return None
    handler = _find(head, page.lang)
    if handler is None:
        return None if may_be_infobox(normal_name(head), page) else GONE
    return _FIXED.get(handler)


def _infobox(call: Call) -> str:
    note_facts(call.arguments, call.page)
    return ""


def _disambiguation(call: Call) -> str:
    call.page.disambiguation = True
    return ""


def _variable(value: Callable[["Page"], str]) -> Handler:
    return lambda call: value(call.page)


_PREFIXES = re.compile(
    r"(?:safesubst|subst|msgnw|msg|raw|template|t|模板|樣板|样板|vorlage|modèle|plantilla|predefinição|sjabloon|szablon|"
    r"шаблон|テンプレート|틀|قالب|الگو|mall|skabelon|mal|šablona|sablon|şablon|bản mẫu|templat) ?: ?"
)


@lru_cache(maxsize=8192)
def normal_name(head: str) -> str:
    """A template's name as the tables have it: in lower case, without "Template:"."""
    name = " ".join(ANY_MARK.sub("", head).replace("_", " ").lower().split())
    while match := _PREFIXES.match(name):
        name = name[match.end() :]
    return name


# The table

_BREAK = re.compile(r"[-/: ]")


def find(name: str, rules: Mapping[str, Handler]) -> Handler | None:
    """The handler for a template, by its whole name or by the longest beginning with a `*`: "lang-*"."""
    handler = rules.get(name)
    if handler is None and name:
        ends = [match.end() for match in _BREAK.finditer(name)]
        handler = next((rules[start] for end in reversed(ends) if (start := f"{name[:end]}*") in rules), None)
    return handler


@lru_cache(maxsize=16384)
def _find(head: str, lang: str) -> Handler | None:
    name = normal_name(head)
    return find(name, _rules_for(lang)) if 0 < len(name) <= MAX_NAME else _DROP


@cache
def _rules_for(lang: str) -> dict[str, Handler]:
    """What the table says for a wiki: the common rules and, winning over them, those of its language."""
    table = _table()
    rules = {code.lower(): HANDLERS["country"] for code in COUNTRIES} | compile_rules(table["common"])
    rules.update(dict.fromkeys(DISAMBIGUATION_TEMPLATES, _disambiguation))
    if lang in ("de", "bar", "als", "nds"):
        rules |= {f"{code}s": HANDLERS["german_language"] for code in names_in("de")}
    for languages, section in table.items():
        if lang in languages.split():
            rules |= compile_rules(section)
    return rules | {name: _variable(value) for name, value in VARIABLES.items()}


@cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(
        resources.files("wikigpt.corpus.wikitext").joinpath("templates.toml").read_text(encoding="utf-8")
    )


# The rules

_ALLOWED = (
    "a rule is text with arguments like {1} or {name|2}, {*, } for all of them and [ ] around what may be missing, "
    '"@handler", "drop" or ""'
)
_PIECE = re.compile(r"(\{\{|\}\}|\[\[|\]\])|\{([^{}\[\]]*)\}|([\[\]{}])|([^\[\]{}]+)")
_JOINED = re.compile(r"(\d{0,3})\*(.*)\Z", re.DOTALL)
_BAD_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f]")

Slot = Callable[[Call], str]


def compile_rules(rules: Mapping[str, str]) -> dict[str, Handler]:
    """Compile rules of the form of `templates.toml` to handlers by template name.

    A key is one name or several with `|` between them; a name may end in "-*", "/*" or " *" and then stands for all
    templates that begin like it. A value is

    - `""`: the template shows nothing; `"drop"`: the same, and brackets left empty around it go too; `"drop with
      brackets"`: the bracket around it goes whatever else is in it;
    - `"@name"`: the handler of that name in `inline.HANDLERS` (`@date`, `@bullets`, `@quote`, …);
    - text in which `{1}` and `{name}` are arguments, `{text|2|1}` the first of these that is not empty, `{*, }` all
      unnamed arguments with ", " between them, `{2*, }` those from the second on, and `[ ({2})]` is left out if an
      argument in it is empty. `{{`, `}}`, `[[`, `]]` are a brace or bracket. If all arguments outside of `[ ]` are
      empty the template shows nothing, as with "drop"; if only some are, what is left empty around them goes.

    >>> sorted(compile_rules({"my box | other box": "{1} ({2})"}))
    ['my box', 'other box']

    Raises `UserError` naming the rule that is none of these.
    """
    handlers: dict[str, Handler] = {}
    for names, rule in rules.items():
        handler = _compile(names, rule)
        for name in names.split("|"):
            normal = normal_name(name)
            if not normal:
                raise UserError(f'The template rule "{names}" has an empty name; separate names by single "|".')
            if normal.endswith("*") and len(normal) > 1 and normal[-2] not in "-/: ":
                raise UserError(f'The template rule "{names}": write "-*", "/*" or " *" at the end of a name.')
            handlers[normal] = handler
    return handlers


def _compile(names: str, rule: object) -> Handler:
    def wrong(problem: str) -> UserError:
        return UserError(f'The rule for the template "{names}" {problem}; {_ALLOWED}.')

    if not isinstance(rule, str):
        raise wrong(f"is {rule!r}, which is no text")
    if rule in _WITHOUT_TEXT:
        return _WITHOUT_TEXT[rule]
    if rule[0] == "@" and rule[1:].isidentifier():
        if rule[1:] not in HANDLERS:
            raise wrong(f'says "{rule}", but there are only @{", @".join(sorted(HANDLERS))}')
        return HANDLERS[rule[1:]]
    if _BAD_TEXT.search(rule):
        raise wrong("has control characters in it")
    pieces: list[str | Slot] = []
    optional: list[str | Slot] | None = None
    keys: list[str] = []
    for double, slot, single, text in _PIECE.findall(rule):
        piece: str | Slot
        if single == "[" and optional is None:
            optional = []
            continue
        if single == "]" and optional is not None:
            pieces.append(_Optional(optional))
            optional = None
            continue
        if single:
            raise wrong(f'has a "{single}" too many in "{rule}"')
        if double or text:
            piece = double[:1] or text
        else:
            piece = _slot(slot)
            keys += ["*"] if "*" in slot else [key.strip() for key in slot.split("|")]
            if not all(keys):
                raise wrong(f'has an argument without a name in "{rule}"')
        (pieces if optional is None else optional).append(piece)
    if optional is not None:
        raise wrong(f'has a "[" that never closes in "{rule}"')
    handler = _filled(pieces)
    return handler if len(keys) == len(set(keys)) else _limited(handler)


def _constant(shown: str) -> Handler:
    return lambda call: shown


_WITHOUT_TEXT = {
    rule: _constant(shown) for rule, shown in (("", ""), ("drop", GONE), ("drop with brackets", GONE_WITH_BRACKETS))
}
_DROP = _WITHOUT_TEXT["drop"]
# What these handlers show whatever the arguments are, which need not be looked at then.
_FIXED: dict[Handler | None, str] = {_WITHOUT_TEXT[""]: "", _DROP: GONE}


def _slot(content: str) -> Slot:
    joined = _JOINED.match(content)
    if joined:
        start, separator = int(joined.group(1) or 1), joined.group(2)
        return lambda call: separator.join(call.listed(start))
    keys = [key.strip() for key in content.split("|")]
    if len(keys) == 1:
        key = keys[0]
        return lambda call: call.arguments.get(key, "").strip()
    return lambda call: call.first(*keys)


def _filled(pieces: list[str | Slot]) -> Handler:
    """Fill the arguments in; GONE stands for an empty one, and for the whole if all are empty."""
    if len(pieces) == 1 and not isinstance(pieces[0], (str, _Optional)):
        only = pieces[0]
        return lambda call: only(call) or GONE
    required = any(not isinstance(piece, (str, _Optional)) for piece in pieces)

    def fill(call: Call) -> str:
        shown: list[str] = []
        empty = required
        for piece in pieces:
            if isinstance(piece, str):
                shown.append(piece)
            elif isinstance(piece, _Optional):
                shown.append(piece(call))
            else:
                value = piece(call)
                shown.append(value or GONE)
                empty = empty and not value
        return GONE if empty else "".join(shown)

    return fill


class _Optional:
    """The text in [ ]: nothing if an argument in it is empty."""

    def __init__(self, pieces: list[str | Slot]) -> None:
        self.pieces = pieces

    def __call__(self, call: Call) -> str:
        shown = [piece if isinstance(piece, str) else piece(call) for piece in self.pieces]
        return "".join(shown) if all(shown) else ""


def _limited(handler: Handler) -> Handler:
    def limited(call: Call) -> str:
        shown = handler(call)
        return shown if len(shown) <= MAX_REPEATED else GONE

    return limited
