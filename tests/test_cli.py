"""Mistakes of the user's: one clear sentence, status 2, nothing half-written."""

import bz2
import subprocess
import sys

import pytest

from conftest import wikigpt

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en"><siteinfo>'
    "<sitename>W</sitename><dbname>enwiki</dbname><base>https://en.wikipedia.org/wiki/Main_Page</base>"
    '<namespaces><namespace key="0" case="first-letter" /></namespaces></siteinfo>'
)
PAGE = (
    "<page><title>{0}</title><ns>0</ns><id>{0}</id><revision><id>{0}</id><text>'''{0}''' is a number that comes "
    "after another number, and before yet another one, as numbers do.</text></revision></page>"
)


def dump(pages: int) -> bytes:
    return (HEAD + "".join(PAGE.format(i) for i in range(pages)) + "</mediawiki>").encode()


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 2 and one sentence on standard error that holds these words."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.xml", None, ["no file or folder", "missing.xml"]),
        ("random.bin", bytes(range(256)) * 40, ["random.bin"]),
        ("page.html", b"<!DOCTYPE html><html><body><p>404 Not found</p></body></html>", ["page.html", "HTML"]),
        ("notes.xml", b"<?xml version='1.0'?><rss><item>no</item></rss>", ["notes.xml", "MediaWiki"]),
        ("cut.xml.bz2", bz2.compress(dump(5000))[:-900], ["cut.xml.bz2", "truncated"]),
        ("empty.xml", dump(0), ["empty.xml", "no pages at all"]),
        ("tiny.xml", dump(3), ["tokens to train on"]),
    ],
)  # fmt: skip
def test_unusable_dumps_are_refused_in_one_sentence(name, content, words, tmp_path):
    dump = tmp_path / name
    if content is not None:
        dump.write_bytes(content)
    run = tmp_path / "run"
    result = wikigpt("build", "tiny", "--dump", dump, "--run", run)
    refused(result, *words)
    assert not list(tmp_path.rglob("*.tmp"))
    if name != "tiny.xml":  # there, the corpus was complete before training refused it
        assert not run.exists()


def test_recipe_mistakes_name_the_key_and_what_is_possible(tmp_path):
    refused(wikigpt("build", "nosuch", "--run", tmp_path / "r"), "no recipe 'nosuch'", "demo")
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[pretrain]\nsteps = 5\nlerning_rate = 1\n[finetune]\nsteps = 5\n")
    refused(wikigpt("build", recipe, "--run", tmp_path / "r"), "no key pretrain.lerning_rate", "learning_rate")
    recipe.write_text("[pretrain\n")
    refused(wikigpt("build", recipe, "--run", tmp_path / "r"), "mine.toml", "line 1")
    refused(
        wikigpt("build", "tiny", "--set", "model.n_heads=7", "--run", tmp_path / "r"), "not a multiple of n_heads=7"
    )
    refused(
        wikigpt("build", "tiny", "--set", "pretrain.steps=soon", "--run", tmp_path / "r"), "pretrain.steps", "'soon'"
    )
    refused(wikigpt("build", "tiny", "--set", "nonsense", "--run", tmp_path / "r"), "section.key=value")
    refused(wikigpt("build", "tiny", "--force", "cook", "--run", tmp_path / "r"), "no stage 'cook'", "pretrain")
    refused(wikigpt("build", "small", "--run", tmp_path / "r"), "nothing to build from", "--dump")
    assert not (tmp_path / "r").exists()


def test_other_commands_say_what_they_miss(tmp_path):
    refused(wikigpt("chat", tmp_path / "nowhere"), "holds no model", "wikigpt build")
    refused(wikigpt("evaluate", tmp_path), "not a run folder")
    refused(wikigpt("search", tmp_path, "x"))
    refused(wikigpt("index", tmp_path, "-o", tmp_path / "k"))
    refused(wikigpt("instruct", tmp_path, "-o", tmp_path / "k"))
    refused(wikigpt("tokenizer", tmp_path, "-o", tmp_path / "k"))


def test_no_command_writes_over_a_folder_that_is_not_its_own(tmp_path):
    thesis, corpus, dumped = tmp_path / "thesis", tmp_path / "corpus", tmp_path / "wiki.xml"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("x")
    dumped.write_bytes(dump(30))
    assert wikigpt("corpus", dumped, "-o", corpus).returncode == 0
    assert wikigpt("tokenizer", corpus, "-o", tmp_path / "tokenizer").returncode == 0
    for command in (
        ["corpus", dumped],
        ["tokenizer", corpus],
        ["pretrain", corpus, "--tokenizer", tmp_path / "tokenizer"],
        ["instruct", corpus],
        ["index", corpus],
    ):
        refused(wikigpt(*command, "-o", thesis), "already holds something else (chapter1.tex)")
    assert [path.name for path in thesis.iterdir()] == ["chapter1.tex"]


def test_usage_errors_and_help():
    assert wikigpt("build", "--nonsense").returncode == 2
    shown = wikigpt("--help")
    assert shown.returncode == 0
    for command in (
        "build",
        "corpus",
        "tokenizer",
        "pretrain",
        "instruct",
        "finetune",
        "distill",
        "prefer",
        "index",
        "evaluate",
        "chat",
    ):
        assert command in shown.stdout
        assert "Example" in wikigpt(command, "--help").stdout


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, wikigpt, wikigpt.cli\n"
        "heavy = {'torch', 'pyarrow', 'numpy', 'tokenizers', 'opencc', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
