"""Any source, any size, any accident: what is read, what is kept, and what goes on where it stopped."""

import bz2
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test_corpus_build import LOREM, dump, many_pages, page
from wikigpt.corpus import build_corpus, clean, corpus_manifest, executors, filters, read_corpus, shards
from wikigpt.corpus.clean import Cleaned, Settings
from wikigpt.corpus.dedup import (
    DUPLICATE,
    KEPT,
    NEAR_DUPLICATE,
    PERMUTATIONS,
    checksum,
    find_duplicates,
    sketches,
    windows,
    windows_in_python,
)
from wikigpt.corpus.dump import Damage
from wikigpt.corpus.shards import pages_of, read_shards, single_pages
from wikigpt.corpus.source import Source
from wikigpt.corpus.survivors import Clean
from wikigpt.corpus.work import Work
from wikigpt.errors import UserError


def titles(folder: Path) -> list[str]:
    return [document.title for document in read_corpus(folder)]


def same(first: Path, second: Path) -> bool:
    """Whether two corpora are equal byte by byte."""
    names = sorted(path.name for path in first.iterdir())
    return names == sorted(path.name for path in second.iterdir()) and all(
        (first / name).read_bytes() == (second / name).read_bytes() for name in names
    )


# Sources


def wikimedia_multistream(text: str, pages_a_stream: int = 100) -> bytes:
    """As Wikimedia writes it: the head in a stream of its own, then pages by the hundred, then the end."""
    head, _, rest = text.partition("<page>")
    body, _, end = ("<page>" + rest).rpartition("</mediawiki>")
    pages = [piece + "</page>" for piece in body.split("</page>")[:-1]]
    groups = ["".join(pages[i : i + pages_a_stream]) for i in range(0, len(pages), pages_a_stream)]
    return b"".join(bz2.compress(part.encode()) for part in (head, *groups, f"{end}</mediawiki>"))


@pytest.mark.parametrize("workers", [1, 2])
def test_multistream_dumps_are_cut_at_their_streams(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BZ2_SHARD_BYTES", 10_000)
    (tmp_path / "a.xml").write_text(many_pages(2000))
    (tmp_path / "a.bz2").write_bytes(wikimedia_multistream(many_pages(2000)))
    plain = build_corpus(tmp_path / "a.xml", tmp_path / "plain", workers=1)
    seen: list[str] = []
    packed = build_corpus(
        tmp_path / "a.bz2", tmp_path / "bz2", workers=workers, progress=lambda done, total, say: seen.append(say)
    )
    assert len(seen) > 5, "one shard a stream or two, and not all in one"
    assert list(read_corpus(tmp_path / "plain")) == list(read_corpus(tmp_path / "bz2"))
    assert packed["pages_seen"] == plain["pages_seen"] == 2000
    assert packed["sources"][0]["sha256"] == _sha256(tmp_path / "a.bz2")


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_streams_that_cut_pages_apart_are_read_in_one(tmp_path: Path) -> None:
    """pbzip2 cuts where it likes."""
    data = many_pages(1000).encode()
    (tmp_path / "a.bz2").write_bytes(b"".join(bz2.compress(data[i : i + 33_333]) for i in range(0, len(data), 33_333)))
    assert build_corpus(tmp_path / "a.bz2", tmp_path / "c")["pages_seen"] == 1000


def test_standard_input(tmp_path: Path) -> None:
    for data in (many_pages(50).encode(), gzip.compress(many_pages(50).encode())):
        command = [sys.executable, "-m", "wikigpt", "corpus", "-", "-o", str(tmp_path / "c"), "--json"]
        done = subprocess.run(command, input=data, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        manifest = json.loads(done.stdout)
        assert manifest["pages_seen"] == 50
        assert manifest["sources"][0] | {"sha256": 0} == {
            "file": "-",
            "bytes": len(data),
            "sha256": 0,
            "kind": "xml",
            "compression": "gz" if data[:1] == b"\x1f" else None,
            "lang": "en",
            "site": manifest["sources"][0]["site"],
        }


def test_seven_zip(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr", reason="the extra 7z is not installed")
    (tmp_path / "a.xml").write_text(many_pages(3000))
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as archive:
        archive.write(tmp_path / "a.xml", "a.xml")
    assert build_corpus(tmp_path / "a.7z", tmp_path / "c")["pages_seen"] == 3000
    damaged = bytearray((tmp_path / "a.7z").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "a.7z").write_bytes(damaged)
    with pytest.raises(UserError, match=r"a\.7z is damaged"):
        build_corpus(tmp_path / "a.7z", tmp_path / "d")


def test_text_files(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "My_garden.txt").write_text(LOREM + "\n\nSecond paragraph. " + LOREM)
    (folder / "长城.txt").write_text("長城是中國的建築。" * 30, encoding="utf-8")
    manifest = build_corpus(folder / "长城.txt", tmp_path / "zh", lang="zh")
    (wall,) = read_corpus(tmp_path / "zh")
    assert wall.title == "长城" and wall.text.startswith("长城是中国的建筑。")
    assert manifest["sources"][0]["kind"] == "text"
    build_corpus(folder, tmp_path / "both")
    assert titles(tmp_path / "both") == ["My garden", "长城"]
    (folder / "bad.txt").write_bytes(b"\xff\x00\xfe\x01")
    with pytest.raises(UserError, match=r"bad\.txt is not a wiki dump"):
        build_corpus(folder, tmp_path / "d")


# What is kept and what is not


def test_disambiguation_pages_become_aliases(tmp_path: Path) -> None:
    pages = [
        page("Mercury (planet)", "It is a planet. " + LOREM, id=1),
        page("Mercury (element)", "It is a metal. " + LOREM * 2, id=2),
        page("Venus", "It is another planet. " + LOREM * 3, id=3),
        page(
            "Mercury (disambiguation)",
            "'''Mercury''' may be:\n* [[Mercury (planet)|a planet]], unlike [[Venus]]\n"
            "* the metal [[mercury (element)]]\n* [[Venus]]\n{{disambiguation}}",
            id=4,
        ),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages))
    build_corpus(tmp_path / "a.xml", tmp_path / "c")
    aliases = {document.title: document.aliases for document in read_corpus(tmp_path / "c")}
    assert aliases == {"Mercury (planet)": ("Mercury",), "Mercury (element)": ("Mercury",), "Venus": ()}


@pytest.mark.parametrize("declared", ["template", "message", "page"])
def test_disambiguation_templates_of_the_dump_itself(declared: str, tmp_path: Path) -> None:
    """A wiki in a language that we know nothing of; its templates may come after the pages that use them."""
    listed = "Vuk ma kivokom:\n* [[Vuk (zuf)]], lut\n* [[Vuk (lom)]], zin\n* [[Zin]]\n"
    box = {"template": "{{Tel kiv}}", "message": "{{kivokom}}", "page": "__DISAMBIG__"}[declared]
    switch = "Text <includeonly>__DISAMBIG__</includeonly>" if declared == "template" else "Text"
    pages = [
        page("Vuk", f"{listed}{LOREM}{box}", id=1),
        page("Vuk (zuf)", f"Zuf. {LOREM}", id=2),
        page("Vuk (lom)", f"Lom. {LOREM * 2}\n* [[Vuk (zuf)]]\n* [[Vuk]]\n{{{{tel}}}}", id=3),
        page("Malnam:Kivokom", switch, ns=10),
        page("Malnam:Tel kiv", "", ns=10, redirect="Malnam:Kivokom"),
        page("MediaWiki:Disambiguationspage", "* [[Malnam:kivokom]]" if declared == "message" else "", ns=8),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages, lang="tlh"))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", keep_dropped=True)
    assert manifest["drops"] == {"disambiguation": 1, "namespace": 3}
    aliases = {document.title: document.aliases for document in read_corpus(tmp_path / "c")}
    assert aliases == {"Vuk (zuf)": ("Vuk",), "Vuk (lom)": ("Vuk",)}
    (aside,) = pq.read_table(tmp_path / "c" / "dropped" / "dropped-00000.parquet").to_pylist()
    assert (aside["title"], aside["reason"]) == ("Vuk", "disambiguation")


LONG = " ".join(f"Sentence number {i} says that {i * i} is the square of {i}." for i in range(80))


def test_near_duplicates(tmp_path: Path) -> None:
    pages = [
        page("First", LONG, id=1),
        page("Second", LONG.replace("number 40", "numero 40"), id=2),
        page("Half", LONG[: len(LONG) // 2], id=3),
        page("Copy", LONG, id=4),
        page("Stub A", f"Stub A is a village. {LOREM}", id=5),
        page("Stub B", f"Stub B is a village. {LOREM}", id=6),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", keep_dropped=True)
    assert manifest["drops"] == {"duplicate": 1, "near_duplicate": 1}
    assert titles(tmp_path / "c") == ["First", "Half", "Stub A", "Stub B"]
    aside = pq.read_table(tmp_path / "c" / "dropped" / "dropped-00000.parquet").to_pylist()
    assert [(row["title"], row["reason"]) for row in aside] == [("Second", "near_duplicate"), ("Copy", "duplicate")]
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", near_duplicates=None)
    assert manifest["drops"] == {"duplicate": 1}


@pytest.mark.skipif(windows is windows_in_python, reason="the compiled modules were not built")
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=99) | st.sampled_from([b"x" * 40, b"\xff" * 40, b"\0" * 500]), max_size=9).map(
        b"".join
    ),
    st.booleans(),
    st.integers(0, 9),
)
def test_windows_are_hashed_as_in_python(text: bytes, sampled: bool, count: int) -> None:
    compiled, plain = (np.zeros(count + len(text), np.uint64) for _ in range(2))
    numbers = (sampled, 0x9E3779B97F4A7C15, 1 << 62)
    end = windows(text, compiled, count, *numbers)
    assert end == windows_in_python(text, plain, count, *numbers)
    assert end == count + max(0, len(text) - 31) or (sampled and end < count + len(text))
    assert compiled.tolist() == plain.tolist()
    if text:
        with pytest.raises(ValueError, match="room"):
            windows(text, compiled[1:], count, *numbers)


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("aZé×Ж\u0300一中龥鿿豈がー・한𠀀0٣_ \n.。\ud800"), min_size=1, max_size=60),
    st.sampled_from(["en", "zh", "ja", "ko", "ru", "xx"]),
)
def test_a_short_cut_drops_the_same(text: str, lang: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        quick = filters.reason_to_drop(text, lang, 0)
        patch.setattr(filters, "_at_least", lambda *_: -1)
        assert quick == filters.reason_to_drop(text, lang, 0)


@given(
    st.lists(st.sampled_from([LONG, LONG + " x", LONG[::-1], "short", LONG.upper(), "另一篇文章。" * 99]), max_size=9)
)
@settings(max_examples=30, deadline=None)
def test_duplicates_are_told_from_what_came_before(texts: list[str]) -> None:
    import numpy as np

    rows = list(sketches(text.encode() for text in texts))
    matrix = np.frombuffer(b"".join(row or bytes(4 * PERMUTATIONS) for row in rows), np.uint32)
    fates = find_duplicates(
        np.array([checksum(text.encode()) for text in texts], np.uint64),
        np.array([row is not None for row in rows], bool),
        matrix.reshape(-1, PERMUTATIONS),
        0.9,
    )
    for i, text in enumerate(texts):
        near = {LONG: LONG + " x", LONG + " x": LONG}.get(text)
        expected = DUPLICATE if text in texts[:i] else NEAR_DUPLICATE if near in texts[:i] else KEPT
        assert fates[i] == expected


def test_dropped_documents_are_kept_aside(tmp_path: Path) -> None:
    pages = [
        page("Good", LOREM, id=1),
        page("Stub", "Short.", id=2),
        page("Numbers", "1 2 3 4 5 6 7 8 9\n" * 30, id=3),
        page("Talk:Good", LOREM, ns=1, id=4),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages))
    build_corpus(tmp_path / "a.xml", tmp_path / "c", keep_dropped=True)
    aside = pq.read_table(tmp_path / "c" / "dropped" / "dropped-00000.parquet").to_pylist()
    assert [(row["title"], row["reason"], row["id"]) for row in aside] == [
        ("Stub", "too_short", "2"),
        ("Numbers", "not_text", "3"),
    ]
    assert aside[0]["text"] == "Short."
    assert titles(tmp_path / "c") == ["Good"]


def test_tables_and_rules_of_the_users(tmp_path: Path) -> None:
    text = f"The {{{{Our box|north|2 m}}}} wall. {LOREM}\n{{|\n! Name !! Height\n|-\n| Wall || 2 m\n|}}\n"
    (tmp_path / "a.xml").write_text(dump(page("A", text)))
    build_corpus(tmp_path / "a.xml", tmp_path / "c", keep_tables=True, templates={"Our box": "{1} ({2})"})
    (document,) = read_corpus(tmp_path / "c")
    assert document.text.startswith("The north (2 m) wall.")
    assert "Name | Height" in document.text and "Wall | 2 m" in document.text
    with pytest.raises(UserError, match="our box"):
        build_corpus(tmp_path / "a.xml", tmp_path / "d", templates={"our box": "@nosuchhandler"})


def test_private_data(tmp_path: Path) -> None:
    pytest.importorskip("pyrage", reason="the extra privacy is not installed")
    secret = "mail ann.lee@example.org"
    pages = [page("A", f"Ask Ann, {secret}. {LOREM}", id=1), page("B", f"{secret}: she knows. {LOREM}", id=2)]
    (tmp_path / "a.xml").write_text(dump(*pages, page("C", secret, id=3)))
    key = tmp_path / "wiki.key"
    manifest = build_corpus(
        tmp_path / "a.xml", tmp_path / "c", privacy="pseudonym", key=key, keep_dropped=True, report=True
    )
    assert manifest["privacy"] == {"email": 3} and manifest["encrypted_for"].startswith("age1")
    files = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "corpus.json",
        "report.html",
        "part-00000.parquet.age",
        "dropped-00000.parquet.age",
    }
    assert not any(word in path.read_bytes() for path in files for word in (b"ann.lee", b"she knows"))
    with pytest.raises(UserError, match="WIKIGPT_KEY"):
        list(read_corpus(tmp_path / "c"))
    from wikigpt.encryption import load_key

    first, second = read_corpus(tmp_path / "c", key=load_key(key))
    assert "ann.lee" not in first.text + second.text
    pseudonym = first.text.split("mail ")[1].split(". ")[0]
    assert pseudonym in second.text, "one address has one pseudonym"


def test_private_titles(tmp_path: Path) -> None:
    """Neither an alias nor the list of what was left out names them."""
    pages = [
        page("Ann", f"Ann works here. {LOREM}", id=1),
        page("ann.lee@example.org", "#REDIRECT [[Ann]]", id=2, redirect="Ann"),
        page("Call bob@example.org", "Short.", id=3),
        page("Call bob@example.org (long)", "word " * 2_000_001, id=4),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", privacy="placeholder", keep_dropped=True)
    (document,) = read_corpus(tmp_path / "c")
    assert document.aliases == ()
    assert [entry["title"] for entry in manifest["skipped"]] == ["Call [EMAIL] (long)"]
    rows = pq.read_table(tmp_path / "c" / "dropped" / "dropped-00000.parquet").to_pylist()
    assert [(row["title"], row["url"]) for row in rows] == [("Call [EMAIL]", ""), ("Call [EMAIL] (long)", "")]


def test_what_disambiguation_pages_list_is_no_way_to_private_names(tmp_path: Path) -> None:
    listed = "'''Ann''' may be:\n* [[Ann]]\n* [[Ann ann@example.org]]\n* [[Ann Lee]]\n{{disambiguation}}"
    pages = [page("Ann Lee", f"'''Ann Lee''' is here. {LOREM}", id=1), page("Ann (disambiguation)", listed, id=2)]
    # One that only its own dump's templates can tell, and one under a private name.
    pages += [
        page("Lee", f"{{{{our list}}}}\n* [[Ann Lee]]\n* [[Lee lee@example.org]]\n* [[Lee 2]]\n{LOREM}", id=3),
        page("Template:Our list", "__DISAMBIG__", ns=10, id=4),
        page("ann@example.org", "#REDIRECT [[Ann Lee]]", id=5),
    ]
    (tmp_path / "a.xml").write_text(dump(*pages))
    build_corpus(tmp_path / "a.xml", tmp_path / "c", privacy="placeholder")
    (document,) = read_corpus(tmp_path / "c")
    assert set(document.aliases) == {"Ann", "Lee"}
    for path in (tmp_path / "c").iterdir():
        content = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_text()
        assert "example.org" not in str(content)


# Accidents


def test_a_page_that_takes_too_long_is_named_and_left_out(tmp_path: Path) -> None:
    slow = "{{convert|1|km}} [[a|b]] " * 40_000
    (tmp_path / "a.xml").write_text(dump(page("Slow", slow), page("Good", LOREM, id=2)))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", page_seconds=0.02, keep_dropped=True)
    assert manifest["drops"] == {"too_slow": 1}
    assert manifest["skipped"] == [{"title": "Slow", "reason": "took longer than 0.02 seconds"}]
    assert titles(tmp_path / "c") == ["Good"]
    (row,) = pq.read_table(tmp_path / "c" / "dropped" / "dropped-00000.parquet").to_pylist()
    assert row["text"] == slow


def test_a_page_that_fails_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reader stumbles over; here its opencc."""
    real = clean.read_wikitext

    def stumbling(text: str, **options: Any) -> Any:
        if "BAD" in text:
            raise RecursionError("too deep")
        return real(text, **options)

    monkeypatch.setattr(clean, "read_wikitext", stumbling)
    (tmp_path / "a.xml").write_text(dump(page("Bad", "BAD " + LOREM), page("Good", LOREM, id=2)))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c")
    assert manifest["drops"] == {"failed": 1}
    assert manifest["skipped"] == [{"title": "Bad", "reason": "failed: RecursionError: too deep"}]


def test_a_page_of_50_megabytes_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(dump(page("Big", "word " * 10_000_000), page("Small", LOREM, id=2)))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", workers=1)
    assert manifest["drops"] == {"too_large": 1}
    assert manifest["skipped"] == [{"title": "Big", "reason": "larger than 10 million characters"}]
    assert titles(tmp_path / "c") == ["Small"]


def poisoned(shard: shards.Shard, settings: Settings, secret: bytes | None) -> Cleaned:
    """Cleans like the real one, but a page about poison kills the process."""
    if b"POISON" in shard.with_data().data:
        os._exit(9)
    return clean.clean_shard(shard, settings, secret)


def cut_off(shard: shards.Shard, settings: Settings, secret: bytes | None) -> Cleaned:
    """Cleans like the real one, but a page about poison kills the process while it sends the result."""
    if b"POISON" in shard.with_data().data:

        def send_half(pipe: Connection, message: Any, **_: Any) -> None:
            os.write(pipe.fileno(), bytes(message)[: len(message) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = send_half  # type: ignore[attr-defined]
    return clean.clean_shard(shard, settings, secret)


@pytest.mark.parametrize(
    ("executor", "cleaner"),
    [
        ("process", poisoned),
        pytest.param("process", cut_off, marks=pytest.mark.skipif(os.name == "nt", reason="POSIX signals")),
        pytest.param("ray", poisoned, marks=pytest.mark.slow),
    ],
)
def test_pages_that_kill_their_process_are_found_and_left_out(
    executor: executors.Executor, cleaner: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if executor == "ray":
        pytest.importorskip("ray", reason="the extra ray is not installed")
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(shards, "SHARD_BYTES", 2_500)
    killing = (20, 25, 27) if cleaner is poisoned and executor == "process" else (27,)  # of three two at the same time
    pages = [page(f"Page {i}", f"{'POISON ' if i in killing else ''}{i} {LOREM}", id=i) for i in range(32)]
    (tmp_path / "a.xml").write_text(dump(*pages))
    source = shards.Source(tmp_path / "a.xml")
    results = list(
        executors.clean_all(
            shards.read_shards(0, source, None), Settings(), executor=executor, workers=2, clean=cleaner
        )
    )
    facts = [cleaned.facts for _, cleaned in results]
    assert len(facts) > 3
    assert sum(each["documents"] for each in facts) == 32 - len(killing)
    assert [skipped for each in facts for skipped in each["skipped"]] == [
        {"title": f"Page {i}", "reason": "failed: the process that cleaned it died"} for i in killing
    ]
    kept = [row for _, each in results for row in each.documents["title"].to_pylist()]
    assert kept == [f"Page {i}" for i in range(32) if i not in killing]


RUN = """
import sys
from wikigpt.corpus import build_corpus, shards
shards.SHARD_BYTES = 100_000
build_corpus("a.xml", "c", workers=int(sys.argv[1]), progress=lambda *say: print(*say, flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_at_any_moment_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 twice; what is finished is not done again, and the result is that of an undisturbed build."""
    (tmp_path / "a.xml").write_text(many_pages(3000))
    (tmp_path / "run.py").write_text(RUN)
    finished = 0
    for workers in ("2", "1"):
        with subprocess.Popen(
            [sys.executable, "run.py", workers], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stdout is not None
            for _ in range(finished + 4):
                process.stdout.readline()
            os.killpg(process.pid, signal.SIGKILL)
        done = {path: path.stat().st_mtime_ns for path in (tmp_path / "c.work").glob("shard-*.json")}
        assert len(done) > finished
        finished = len(done)
    assert not (tmp_path / "c").exists()
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    written: list[int] = []
    real = Work.write
    monkeypatch.setattr(
        Work, "write", lambda work, number, *rest: (written.append(number), real(work, number, *rest))[1]
    )
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", workers=2)
    there = {int(path.stem.partition("-")[2]) for path in done}
    assert written and there.isdisjoint(written) and len(there) + len(written) == max(written) + 1
    assert not (tmp_path / "c.work").exists()
    build_corpus(tmp_path / "a.xml", tmp_path / "undisturbed", workers=1)
    assert same(tmp_path / "c", tmp_path / "undisturbed")
    assert manifest["pages_seen"] == 3000


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_worker_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(3000))
    (tmp_path / "run.py").write_text(RUN)
    with subprocess.Popen([sys.executable, "run.py", "2"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[0].kill()
        process.communicate()
    assert process.returncode == 0
    manifest = corpus_manifest(tmp_path / "c")
    assert manifest["pages_seen"] == 3000 and manifest["skipped"] == []


def test_other_settings_do_not_take_over_unfinished_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 50_000)
    (tmp_path / "a.xml").write_text(many_pages(300)[:-30])
    with pytest.raises(UserError, match="articles are kept in"):
        build_corpus(tmp_path / "a.xml", tmp_path / "c")
    (tmp_path / "a.xml").write_text(many_pages(300))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", min_chars=900)
    assert manifest["settings"]["min_chars"] == 900
    assert all(len(document.text) >= 900 for document in read_corpus(tmp_path / "c"))


def test_two_builds_of_one_corpus(tmp_path: Path) -> None:
    from wikigpt.artifacts import only_writer

    (tmp_path / "a.xml").write_text(many_pages(10))
    (tmp_path / "c.work").mkdir()
    (tmp_path / "c.work" / "shard-000000.json").write_text("of the other process")
    with only_writer(tmp_path / "c.work"), pytest.raises(UserError, match="another wikigpt process"):
        build_corpus(tmp_path / "a.xml", tmp_path / "c")
    assert (tmp_path / "c.work" / "shard-000000.json").read_text() == "of the other process"
    assert build_corpus(tmp_path / "a.xml", tmp_path / "c")["pages_seen"] == 10


@given(st.integers(2_000, 60_000), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_where_it_is_cut_does_not_matter(tmp_path_factory: pytest.TempPathFactory, size: int, seed: int) -> None:
    import random

    folder = tmp_path_factory.mktemp("cut")
    rng = random.Random(seed)
    pages = [page(f"P {i}", f"{rng.random()} {LOREM * rng.randint(0, 40)}", id=i) for i in range(60)]
    (folder / "a.xml").write_text(dump(*pages))
    build_corpus(folder / "a.xml", folder / "whole", near_duplicates=None)
    before, shards.SHARD_BYTES = shards.SHARD_BYTES, size
    try:
        build_corpus(folder / "a.xml", folder / "cut", near_duplicates=None)
    finally:
        shards.SHARD_BYTES = before
    assert list(read_corpus(folder / "whole")) == list(read_corpus(folder / "cut"))


# Damaged sources, read as far as they can be


def test_damaged_pages_are_left_out_if_asked(tmp_path: Path) -> None:
    pages = [page(f"Page {i}", f"{i} {LOREM}", id=i) for i in range(20)]
    pages[7] = pages[7].replace("</revision>", "</revsion>")
    pages[11] = pages[11].replace("long history", "long \x00 history")
    (tmp_path / "a.xml").write_text(dump(*pages))
    with pytest.raises(UserError, match=r"not well-formed XML \(mismatched tag\) \(after 7 pages\).*--skip-damaged"):
        build_corpus(tmp_path / "a.xml", tmp_path / "c")
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c", skip_damaged=True)
    assert titles(tmp_path / "c") == [f"Page {i}" for i in range(20) if i not in (7, 11)]
    assert manifest["drops"] == {"damaged": 2}
    assert [entry["title"] for entry in manifest["skipped"]] == ["Page 7", "Page 11"]
    assert all(entry["reason"].startswith("damaged: this is not well-formed XML") for entry in manifest["skipped"])


def test_what_stands_before_the_damage_is_kept_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bz2.compress(many_pages(3000).encode(), 1)
    (tmp_path / "a.bz2").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UserError, match="truncated"):
        build_corpus(tmp_path / "a.bz2", tmp_path / "c")
    monkeypatch.setattr(Work, "write", lambda *_: pytest.fail("what is finished was done again"))
    manifest = build_corpus(tmp_path / "a.bz2", tmp_path / "c", skip_damaged=True)
    assert 500 < manifest["documents"] < 2000
    assert manifest["damage"] == [f"{tmp_path / 'a.bz2'}: the file is truncated: it ends too early"]


@pytest.mark.parametrize("shard_bytes", [1, 10**9])  # one stream a shard, or all in one
def test_a_damaged_stream_among_others(shard_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BZ2_SHARD_BYTES", shard_bytes)
    data = wikimedia_multistream(many_pages(1000))
    borders = [i for i in range(len(data)) if data.startswith(b"BZh91AY&SY", i)]
    middle = borders[5] + 300
    (tmp_path / "a.bz2").write_bytes(data[:middle] + b"garbage" * 9 + data[middle + 63 :])
    with pytest.raises(UserError, match="the file is damaged"):
        build_corpus(tmp_path / "a.bz2", tmp_path / "c")
    manifest = build_corpus(tmp_path / "a.bz2", tmp_path / "c", skip_damaged=True)
    assert manifest["pages_seen"] == 900
    assert manifest["skipped"][0]["reason"].startswith("damaged: the file is damaged")


def test_damaged_lines_are_left_out_if_asked(tmp_path: Path) -> None:
    good = [json.dumps({"title": name, "text": f"{name} {LOREM}", "lang": "en"}) for name in "AB"]
    (tmp_path / "a.jsonl").write_text(f'{good[0]}\n{{"title": \n{good[1]}\n')
    manifest = build_corpus(tmp_path / "a.jsonl", tmp_path / "c", skip_damaged=True)
    assert titles(tmp_path / "c") == ["A", "B"]
    assert manifest["drops"] == {"damaged": 1}
    assert manifest["skipped"][0]["title"] == "line 2"


# A cluster


@pytest.mark.skipif(os.name == "nt", reason="Ray on Windows is not what clusters run")
def test_a_ray_cluster_of_two_machines_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(shards, "SHARD_BYTES", 200_000)
    (tmp_path / "a.xml").write_text(many_pages(1500))
    build_corpus(tmp_path / "a.xml", tmp_path / "here", workers=1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        build_corpus(tmp_path / "a.xml", tmp_path / "there", executor="ray")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert same(tmp_path / "here", tmp_path / "there")


# The command


def test_the_command_with_everything(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(60))
    command = [sys.executable, "-m", "wikigpt", "corpus", "a.xml", "-o", "c", "--report", "--keep-dropped"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    assert "articles" in done.stdout
    assert "<svg" in (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "c.work").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_named_and_what_is_finished_stays(tmp_path: Path, workers: int) -> None:
    chance = random.Random(0)
    articles = [page(f"Page {i}", " ".join(chance.choices(LOREM.split(), k=400)), id=i) for i in range(500)]
    (tmp_path / "a.xml").write_text(dump(*articles))
    command = f"{sys.executable} -m wikigpt corpus a.xml -o c --workers {workers}"

    def build(limit: str) -> "subprocess.CompletedProcess[str]":
        script = f"ulimit -f {limit}; {command}"
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    (tmp_path / "c.work").mkdir()
    (tmp_path / "c.work" / "put-999999999-7.arrow").write_bytes(b"left by a process that is gone")
    failed = build("400")  # kilobytes a file
    assert failed.returncode == 1
    assert re.search(r"c\.work/put-\S+: File too large", failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "c.work" / "put-999999999-7.arrow").exists()
    assert build("unlimited").returncode == 0
    assert len(titles(tmp_path / "c")) == 500


def test_a_process_is_sent_where_the_data_lie(tmp_path: Path) -> None:
    path = tmp_path / "wiki.xml"
    path.write_text(many_pages(30), encoding="utf-8")
    (shard,) = read_shards(0, Source(path), None)
    content = path.read_bytes()
    assert not shard.data
    assert content[shard.start :].startswith(shard.with_data().data)
    assert len(list(pages_of(shard))) == 30
    assert all(single.data for single in single_pages(shard))
    path.write_bytes(content[:-2000])
    with pytest.raises(Damage, match="has changed while it was read"):
        shard.with_data()
    packed = tmp_path / "wiki.xml.gz"
    packed.write_bytes(gzip.compress(many_pages(30).encode()))
    (shard,) = read_shards(0, Source(packed), None)
    assert shard.data
    assert shard == shard.with_data()


def test_an_interrupted_merge_leaves_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.write.PART_ROWS", 7)
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    (tmp_path / "wiki.xml").write_text(many_pages(200), encoding="utf-8")

    def interrupt(done: int, total: int, message: str) -> None:
        if message.startswith("merging: 2 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(tmp_path / "wiki.xml", tmp_path / "c", workers=2, progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["c.work"]


def test_threads_write_the_same_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.write.PART_ROWS", 7)
    path = tmp_path / "wiki.xml"
    path.write_text(many_pages(60), encoding="utf-8")
    folders = [tmp_path / str(workers) for workers in (1, 3)]
    for workers, folder in zip((1, 3), folders, strict=True):
        build_corpus(path, folder, workers=workers)
    parts = [{part.name: part.read_bytes() for part in folder.glob("part-*")} for folder in folders]
    assert len(parts[0]) > 5
    assert parts[0] == parts[1]
    assert corpus_manifest(folders[0])["parts"] == corpus_manifest(folders[1])["parts"]
