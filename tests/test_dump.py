"""Pages of a dump: those taken apart without an XML parser are the same as expat's, and so is what is wrong."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wikigpt.corpus import dump
from wikigpt.corpus.dump import Damage, Page, Site, read_pages
from wikigpt.corpus.shards import Shard, pages_of, read_shards
from wikigpt.corpus.source import Source

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data") / "xml"
Read = tuple[list[Page], tuple[str, int | None, int] | None]

CONTENTS = [dump.content_in_python]
if dump.content is not dump.content_in_python:
    CONTENTS.append(dump.content)
PAGE = """  <page>
    <title>A &amp; B</title>
    <ns>0</ns>
    <id>12</id>
    <redirect title="C &quot;D&quot;" />
    <revision>
      <id>345</id>
      <parentid>344</parentid>
      <timestamp>2014-10-26T04:50:23Z</timestamp>
      <contributor>
        <username>阿</username>
        <id>9092818</id>
      </contributor>
      <minor />
      <comment>é &lt; ü</comment>
      <origin>345</origin>
      <model>wikitext</model>
      <format>text/x-wiki</format>
      <text bytes="111" sha1="kmy" xml:space="preserve">'''甲'''&lt;ref name=&quot;x&quot;&gt;b&lt;/ref&gt;
it&#039;s &amp;nbsp;</text>
      <sha1>4ro7</sha1>
    </revision>
  </page>
"""


def outcome(read: Iterator[Page]) -> Read:
    """What comes of reading, the damage included."""
    pages: list[Page] = []
    try:
        pages.extend(replace(page, checked=False) for page in read)
    except Damage as damage:
        return pages, (damage.problem, damage.line, damage.pages)
    return pages, None


def read(data: bytes) -> Read:
    """What a piece of a dump holds."""
    return outcome(read_pages(data, Site()))


def by_expat(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Read:
    """The same, by expat alone."""
    with monkeypatch.context() as patch:
        patch.setattr(dump, "_page_as_written", lambda *_: None)
        return read(data)


def test_a_page_as_mediawiki_writes_it() -> None:
    (page,) = read_pages(PAGE.encode(), Site())
    text = "'''甲'''<ref name=\"x\">b</ref>\nit's &nbsp;"
    assert page == Page("12", "A & B", 0, "345", "wikitext", 'C "D"', text, checked=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<minor />", "<minor/>\n      <unknown>x</unknown>"),
        ('<text bytes="111"', "<text bytes='111'"),
        ("<title>", "<title><!-- c -->"),
        ("it&#039;s", "it&apos;s"),
        ("it&#039;s", "&#x7532;<![CDATA[ <b> ]]>"),
        ("</revision>", "</revision><revision><id>346</id><text>later</text></revision>"),
    ],
)
def test_other_xml_is_read_too(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = PAGE.replace(old, new)
    assert changed != PAGE
    pages, damage = read(changed.encode())
    assert damage is None
    assert not next(read_pages(changed.encode(), Site())).checked
    assert (pages, damage) == by_expat(changed.encode(), monkeypatch)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real dumps at {DATA}: set WIKIGPT_DATA")
@pytest.mark.parametrize("path", sorted(DATA.rglob("*.xml*")), ids=lambda path: path.name)
def test_real_pages_are_as_expat_reads_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards: list[Shard] = []
    with suppress(Damage):
        shards.extend(read_shards(0, Source(path), None))
    fast = [outcome(pages_of(shard)) for shard in shards]
    monkeypatch.setattr(dump, "_page_as_written", lambda *_: None)
    assert fast == [outcome(pages_of(shard)) for shard in shards]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real dumps at {DATA}: set WIKIGPT_DATA")
def test_nearly_all_real_pages_need_no_parser() -> None:
    for name in ("enwiki-206pages.xml.bz2", "enwiki-70pages.xml.bz2", "ltgwiki-2004pages.xml.gz"):
        pages = [page for shard in read_shards(0, Source(DATA / name), None) for page in pages_of(shard)]
        assert sum(page.checked for page in pages) > 0.95 * len(pages)


def swapped(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """`data` with some stretches replaced."""
    for position, length, new in changes:
        position %= len(data) + 1
        data = data[:position] + new + data[position + length :]
    return data


NEW = st.one_of(
    st.binary(max_size=3),
    st.sampled_from(
        [b"<", b">", b"&", b";", b"&lt;", b"]]>", b"</page>", b"<page>", b"\r", b"\xef\xbf\xbe", b'"', b"\x01"]
    ),
)


@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 20), NEW), min_size=1, max_size=3))
@settings(max_examples=300)
@example([(900, 0, b"\xef\xbf\xbf")])
@example([(500, 0, b"\xff")])
@example([(20, 9, b"")])
def test_damaged_pages_are_as_expat_reads_them(changes: list[tuple[int, int, bytes]]) -> None:
    data = swapped(PAGE.encode() * 3, changes)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert read(data) == by_expat(data, monkeypatch)


@pytest.mark.parametrize("content", CONTENTS)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")))
def test_content_is_unescaped(content: Callable[[bytes, int, int], str], text: str) -> None:
    data = escape(text, {'"': "&quot;", "'": "&#039;"}).encode()
    assert content(b"<a>" + data + b"</a>", 3, 3 + len(data)) == text


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    "data",
    [
        *b"&nbsp;|a & b|&|&lt|&l|&amp|a<b|a>b|\x00|\x7f|\r|\xff|\xed\xa0\x80".split(b"|"),
        *("\ufffe".encode(), "a\uffff".encode(), "甲".encode()[:2]),
    ],
)
def test_what_an_xml_parser_should_judge_is_refused(content: Callable[[bytes, int, int], str], data: bytes) -> None:
    with pytest.raises(ValueError):
        content(data, 0, len(data))


@given(st.binary(max_size=60), st.integers(-5, 70), st.integers(-5, 70))
def test_compiled_content_is_the_same(data: bytes, start: int, end: int) -> None:
    if len(CONTENTS) < 2:
        pytest.skip("the compiled part is not installed")
    start, end = max(start, 0), max(end, 0)
    results: list[str | None] = []
    for content in CONTENTS:
        try:
            results.append(content(data, start, end))
        except ValueError:
            results.append(None)
    assert results[0] == results[1]
