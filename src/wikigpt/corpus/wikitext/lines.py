"""One line of wikitext: a heading, a list item, a rule, or text with bold and italic marks in it."""

import re

from wikigpt.corpus.wikitext.marks import GONE, HEADING

# What a line must begin with to be more than running text.
STARTS = frozenset(f"=*#:;-{GONE}")
_NOTHING = f" \t{GONE}"


def read_line(line: str, marked: bool) -> str:
    """What a line shows that is not empty; `marked`: headings are, for `drop_empty_sections`."""
    if line[0] in STARTS:
        # A template that shows nothing does not keep a line from beginning behind it.
        bare = line.lstrip(_NOTHING) if line[0] == GONE else line
        first = bare[:1]
        if first == "=" and len(bare) > 2:
            level, name = heading(bare.rstrip(_NOTHING))
            if level:
                name = without_quotes(name)
                return f"\n{HEADING}{'#' * max(2, level)} {name}\n" if marked else name
        elif first in ("*", "#", ":", ";"):
            return _list_item(bare)
        elif bare.startswith("----"):
            line = bare.lstrip("-")
    return without_quotes(line)


def heading(line: str) -> tuple[int, str]:
    """Level and name: as many marks as both sides have; more of them are text, as in MediaWiki."""
    size = len(line)
    left, right = size - len(line.lstrip("=")), size - len(line.rstrip("="))
    level = min(left, right, 6, (size - 1) // 2)
    return level, line[level : size - level].strip()


def _list_item(line: str) -> str:
    content = line.lstrip("*#:;")
    marks = line[: len(line) - len(content)]
    content = content.strip()
    if marks[-1] == ";" and ":" in content:
        content = _definition(content, marks.count(";"))
    content = without_quotes(content)
    return f"- {content}" if marks[-1] in "*#" and content else content


_COLON = re.compile(
    r"<(/?)[a-z][^<>]*?(/?)>|(''+)|\[(?:[a-z]{3,9}:)?//[^][\n]*+\]|\b[a-z]{3,9}://[^]\s[<>]*+|mailto:|:", re.IGNORECASE
)


def _definition(content: str, terms: int) -> str:
    """`; term : what it means`, split at the first colons outside of tags, quotes and addresses, one a semicolon."""
    pieces: list[str] = []
    position = depth = 0
    bold = italic = False
    for match in _COLON.finditer(content):
        if match.group() == ":":
            if not (depth or bold or italic):
                pieces.append(content[position : match.start()].strip())
                position = match.end()
                if len(pieces) == terms:
                    break
        elif quotes := match.group(3):
            bold, italic = bold != (len(quotes) != 2), italic != (len(quotes) in (2, 5))
        elif match.group()[0] == "<" and not match.group(2):
            depth += -1 if match.group(1) else 1
    return "\n".join([*pieces, content[position:].strip()])


# As in MediaWiki, where these marks are tags before addresses are read: [http://a.b/''c'' d] shows "c d".
_ADDRESS_BEFORE_QUOTES = re.compile(r"(\[(?:https?:)?//[^][\s<>\"']++)(?='')")


def without_quotes(line: str) -> str:
    """Remove the marks of bold and italic text, but not apostrophes (MediaWiki's doQuotes)."""
    if "''" not in line:
        return line
    if "[" in line:
        line = _ADDRESS_BEFORE_QUOTES.sub(r"\1 ", line)
    if "'''" not in line:
        return line.replace("''", "")
    if "''''" not in line:
        bold = line.count("'''")
        if bold % 2 == 0 or (line.count("''") - bold) % 2 == 0:
            return line.replace("'''", "").replace("''", "")
    return _balanced_quotes(line)


def _balanced_quotes(line: str) -> str:
    """The rare cases: four and more apostrophes in a row, or bold and italic both left open."""
    pieces = re.split(r"('{2,})", line)
    sizes = [len(marks) for marks in pieces[1::2]]
    for i, size in enumerate(sizes):
        if size == 4 or size > 5:  # four: an apostrophe and bold; six and more: apostrophes and both
            sizes[i] = 3 if size == 4 else 5
            pieces[2 * i] += "'" * (size - sizes[i])
    bold, italic = len(sizes) - sizes.count(2), len(sizes) - sizes.count(3)
    if bold % 2 and italic % 2:
        # One ''' is an apostrophe before italics: L'''amour'' . MediaWiki takes the first after a
        # one-letter word, else after a longer word, else after a space.
        after_letter = after_word = after_space = None
        for i, size in enumerate(sizes):
            if size == 3:
                before = pieces[2 * i]
                if before[-1:] == " ":
                    after_space = i if after_space is None else after_space
                elif before[-2:-1] == " ":
                    after_letter = i
                    break
                elif after_word is None:
                    after_word = i
        chosen = next((i for i in (after_letter, after_word, after_space) if i is not None), None)
        if chosen is not None:
            pieces[2 * chosen] += "'"
    return "".join(pieces[::2])
