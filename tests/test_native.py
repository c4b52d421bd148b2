"""The compiled passes over a page: the same results as those in Python, for any text."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wikigpt.corpus.filters import BOILERPLATE
from wikigpt.corpus.shards import pages_of, read_shards
from wikigpt.corpus.source import Source
from wikigpt.corpus.wikitext import Article, Options, kernels, read_wikitext, scan
from wikigpt.corpus.wikitext.phrases import phrases

try:
    from wikigpt.corpus.wikitext import native
except ImportError:
    native = None

KERNELS = (
    "Words",
    "cut_at_marks",
    "drop_empty_sections",
    "follows",
    "heading_lines",
    "is_balanced",
    "next_tag",
    "pieces",
    "places",
    "read_lines",
    "tidied",
)
DATA = Path(os.environ.get("WIKIGPT_DATA", Path(__file__).parents[2] / "shared" / "data")) / "xml"

compiled = pytest.mark.skipif(native is None, reason="the compiled modules were not built (there is no compiler)")

# What the passes look for, and characters of one, two and four bytes with other properties.
ALPHABET = [
    *"abz XY-019.,:;#*=|/!<>[]{}'\"_&\n\t\r\x0b\x1c\x7f\x00\x01\x02\x03\x04\x05\x06",
    *"\x85\xa0\xadéſKİıμ\u0300\u0301\u0345\u0374\u0387\u1100\u1161\u11a8\u1680\u2000\u2001\u2002\u2009\u200b\u200c\u200d",
    *"\u2010\u2014\u2019\u2026\u2028\u2029\u202a\u202f\u205f\u2060\u2061\u2069\u206f\u2126\u212b\u3000\u3001\u302a\u3099",
    *"がガ中文한국ﬁ！～｟豈\uac00\ud7a3\ud800\udfff\ufeff\uffff😀𝅗𝅥𠀀",
]
MARKUP = [
    *("[[", "]]", "[[[", "]]]", "{{", "}}", "{{{", "}}}", "{{{{", "}}}}", "-{", "}-", "}}-", "-{{", "[[a]]", "[[a|b]]"),
    *(
        "[[ a]]",
        "[[a ]]",
        "[[a|]]",
        "[[|b]]",
        "[[../a]]",
        "[[/a]]",
        "[[a|*b]]",
        "[[a:b]]",
        "[[File:a.jpg|b]]",
        "{{b|c=d}}",
    ),
    *(
        "[[Category:a]]",
        "{{lang|fr|a}}",
        "{{convert|3|km}}",
        "{{·}}",
        "{{infobox x|a=b|c=d\n|e=f|g=h}}",
        "{{'}}",
        "{{!}}",
    ),
    *(
        "<!--",
        "-->",
        "<!-- a -->",
        "<ref>",
        "</ref>",
        "<ref name=a />",
        "<ref/>",
        "<REF a=b>c</Ref>",
        "<ref >",
        "<ref\u3000a>",
    ),
    *(
        "<nowiki>",
        "</nowiki>",
        "<nowiki/>",
        "<br>",
        "<br />",
        "</noinclude>",
        "<noİnclude>",
        "<refſ>",
        "<div style=",
        "<math>x",
    ),
    *(
        "''",
        "'''",
        "''''",
        "'''''",
        "''''''",
        "\n==",
        "==\n",
        "\n== a ==\n",
        "\n=a=\n",
        "\n======",
        "=\n=",
        "== \t\n",
        "\n=\n",
    ),
    *(
        "\n*",
        "\n* a",
        "\n*#",
        "\n; a : b",
        "\n:",
        "\n;",
        "\n----",
        "\n---- a",
        "\n-",
        "\n-\n",
        "\n\x05",
        "\n\x05 = a =",
        "\n\x05* a",
    ),
    *(
        "\n{|",
        "\n|}",
        "\n|-",
        "\n| a",
        "\n! b",
        "|",
        "http://a.b ''c''",
        "[http://a b]",
        "//",
        "__TOC__",
        "&nbsp;",
        "&#160;",
        "&lt;",
    ),
    *(
        "\n\n",
        "\n\n\n",
        "  ",
        "   ",
        " \n ",
        "a" * 40,
        "中" * 40,
        "a " * 20,
        "references",
        "\n== References ==\n",
        "\x06## a\n",
        "\x06### b\n",
        "\x04" + "\x03" * 16,
        "\x04" * 17,
        "\x04" + "\x03\x04" * 7,
    ),
]
texts = st.lists(st.sampled_from(ALPHABET + MARKUP) | st.text(max_size=3), max_size=40).map("".join)
NAMES = frozenset({"nowiki", "math", "ref", "noinclude", "/noinclude", "br"})


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str]]:
    """What a pass gives, and what it adds to a list."""
    out: list[str] = []
    return function(*arguments, out) if function.__name__ == "next_tag" else function(*arguments), out


def same(name: str, *arguments: Any) -> None:
    assert outcome(getattr(native, name), *arguments) == outcome(getattr(scan, name), *arguments)


@compiled
@settings(max_examples=1500, deadline=None)
@given(texts)
@example("")
@example("\n")
@example("[[a]]")
@example("[[a")
@example("<ref>a</re")
@example("=a=")
@example("-")
@example("-\n-\n\x06")
def test_every_pass_gives_what_it_gives_in_python(text: str) -> None:
    same("heading_lines", text)
    same("is_balanced", text)
    same("tidied", text)
    same("drop_empty_sections", text)
    for flag in (False, True):
        same("pieces", text, flag)
        same("read_lines", text, flag)
    for c, before in (
        (";", "\n*#:;"),
        ("]", "]"),
        ("|", "{\n"),
        ("/", "<"),
        ("é", "aé"),
        ("文", "中😀"),
        ("😀", "文 "),
    ):
        same("follows", text, c, before)
        same("places", text, c)
    same("next_tag", text, 0, 0, NAMES)
    same("cut_at_marks", text)
    start = text.find("<") + 1
    same("next_tag", text, start, start, NAMES)


@compiled
@settings(max_examples=300, deadline=None)
@given(texts)
def test_every_pass_over_a_longer_text(text: str) -> None:
    """Long enough for many characters to be looked at in one go, before and behind what is looked for."""
    for long in (f"{'a b ' * 30}{text}{'c' * 70}\n", f"{'中文' * 30}{text}{'d. ' * 40}", f"{text}\n" * 5):
        test_every_pass_gives_what_it_gives_in_python.hypothesis.inner_test(long)  # type: ignore[attr-defined]


@compiled
@settings(max_examples=500, deadline=None)
@given(st.text("ab中文😀"), st.dictionaries(st.text("ab中文😀", min_size=1, max_size=4), st.text("xy", max_size=2)))
def test_the_same_words_are_taken(text: str, words: dict[str, str]) -> None:
    sources = [*words, "a"]
    taken: list[tuple[bool, str]] = []
    expected: list[tuple[bool, str]] = []
    native.Words(sources).take(text, words, taken)
    scan.Words(sources).take(text, words, expected)
    assert taken == expected


# Conversion


@pytest.fixture(scope="module")
def opencc() -> Callable[[str], str]:
    return pytest.importorskip("opencc").OpenCC("t2s").convert  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def compiled_converter(opencc: Callable[[str], str]) -> Callable[[str], str]:
    return native.Converter(opencc, phrases("t2s"))  # type: ignore[no-any-return]


Convert = Callable[[str], str]
PHRASES = sorted(phrases("t2s") or {"乾隆"})
PARTS = sorted({phrase[i:j] for phrase in PHRASES for i in range(len(phrase)) for j in range(i + 1, len(phrase) + 1)})
ODD = [*"\x00 \na。著㑮⿰⿱⿲⿳⿾\ufe00\ufe0f\uffff豈龜😀𠀀𡞵\U000e0100\U0002f800"]


def test_the_phrases_are_known() -> None:
    """All wheels of opencc can list them; without, conversion is right but slow."""
    assert {"乾隆", "憑藉"} <= set(phrases("t2s") or ())
    assert phrases("s2tw") is None, "it converts twice: the second time, other characters are neighbours"
    assert phrases("no-such-configuration") is None


@compiled
@settings(max_examples=1000, deadline=None)
@given(text=st.lists(st.sampled_from(PARTS) | st.sampled_from(ODD) | st.text(max_size=2)).map("".join))
@example(text="乾隆")
@example(text="乾")
@example(text="⿰乾隆\n漢")
@example(text="豈\ufe00乾豈隆")
def test_conversion_is_that_of_opencc(text: str, opencc: Convert, compiled_converter: Convert) -> None:
    text = text.encode(errors="ignore").decode()
    assert compiled_converter(text) == opencc(text)


@compiled
def test_any_character_between_others_is_converted_as_by_opencc(opencc: Convert, compiled_converter: Convert) -> None:
    characters = [chr(code) for code in range(1, 0x30000) if not (0xD800 <= code < 0xE000 or 0x2FF0 <= code < 0x3000)]
    for before, after in ("乾隆", "沈默", "漢漢", ("", "\ufe00")):
        text = "\n".join(f"{before}{character}{after}" for character in characters)
        assert compiled_converter(text) == opencc(text)


@compiled
def test_real_pages_are_converted_as_by_opencc(opencc: Convert, compiled_converter: Convert) -> None:
    if not (DATA / "zhwiki-33pages.xml.gz").exists():
        pytest.skip(f"{DATA / 'zhwiki-33pages.xml.gz'} is not there")
    for shard in read_shards(0, Source(DATA / "zhwiki-33pages.xml.gz"), None):
        for page in pages_of(shard):
            assert compiled_converter(page.text) == opencc(page.text)


@contextmanager
def in_python() -> Iterator[None]:
    """Have the passes in Python wherever the compiled ones are in use."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("wikigpt.corpus.wikitext."):
                for kernel in KERNELS:
                    if getattr(module, kernel, None) is getattr(native, kernel) and module is not native:
                        patch.setattr(module, kernel, getattr(scan, kernel))
        yield


@compiled
@settings(max_examples=500, deadline=None)
@given(texts, st.sampled_from(["en", "zh", "fr"]))
def test_a_page_is_read_alike(text: str, lang: str) -> None:
    def read() -> Article:
        return read_wikitext(text, lang=lang, title="a", variant="zh-hans" if lang == "zh" else None, options=options)

    options = Options(keep_tables=len(text) % 2 == 0, skip_sections=BOILERPLATE)
    expected = read()
    with in_python():
        assert read() == expected


FILES = ("enwiki-206pages.xml.bz2", "zhwiki-33pages.xml.gz", "ltgwiki-2004pages.xml.gz", "simplewiki-7pages.xml")


@compiled
@pytest.mark.parametrize("name", FILES)
def test_real_pages_are_read_alike(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not there")
    lang = name[: name.index("wiki-")]
    variant = "zh-hans" if lang == "zh" else None
    pages = [page for shard in read_shards(0, Source(DATA / name), None) for page in pages_of(shard)]

    def read(options: Options) -> list[Article]:
        return [
            read_wikitext(page.text, lang=lang, variant=variant, title=page.title, options=options) for page in pages
        ]

    for options in (Options(skip_sections=BOILERPLATE), Options(keep_tables=True)):
        expected = read(options)
        with in_python():
            assert read(options) == expected


@compiled
def test_characters_that_are_copied_need_no_composing() -> None:
    """Each character alone, behind a letter and before a combining mark: all that `visible` may do shows in these."""
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x11000), *range(0x1D100, 0x1D200)):
        c = chr(code)
        for text in (f"a{c}b", f"{c}a", f"a{c}", f"가{c}가"):
            assert native.tidied(text) == scan.tidied(text), hex(code)


def answer(code: str, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key != "WIKIGPT_PURE_PYTHON"}
    command = [sys.executable, "-c", f"from wikigpt.corpus.wikitext import kernels; {code}"]
    return subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_python_is_used_where_that_is_asked_for() -> None:
    code = "print(kernels.compiled, kernels.pieces.__module__)"
    assert answer(code, WIKIGPT_PURE_PYTHON="1") == "False wikigpt.corpus.wikitext.scan"


def test_what_can_be_compiled_is() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if not (shutil.which(compiler) and headers.exists()):
        pytest.skip("there is no C compiler, or Python's headers are not there")
    assert answer("print(kernels.compiled)") == "True", "`pip install -e .` builds the compiled modules"


def test_matches_and_replaced_are_finditer_and_sub() -> None:
    for text in ("", "&amp;", "a&amp;b&&lt;;&gt", "&" * 50, "&amp;" * 9, "x" * 99 + "&amp;&lt;" + "y" * 99):
        pattern = kernels.re.compile("&([a-z]+);")
        assert [m.span() for m in kernels.matches(pattern, "&", text)] == [m.span() for m in pattern.finditer(text)]
        assert kernels.replaced(pattern, "&", lambda m: m.group(1), text) == pattern.sub(r"\1", text)
