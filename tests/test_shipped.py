"""The model that comes with the package: found by its name, and missed or found damaged in plain words."""

import shutil
import sys
from pathlib import Path

import pytest

from wikigpt import cli, shipped
from wikigpt.artifacts import sha256_file, write_json
from wikigpt.errors import UserError
from wikigpt.model import load_model, save_model
from wikigpt.pipeline import build_stages
from wikigpt.recipe import load_recipe


@pytest.fixture
def mini(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `tools/ship_mini.py` writes it, of the tiny run."""
    folder = tmp_path / "mini"
    for part in ("base", "model"):
        save_model(load_model(run / part), folder / part, tokenizer=run / part, int8=True)
    shutil.copytree(run / "knowledge", folder / "knowledge")
    files = [path for path in folder.rglob("*") if path.is_file()]
    write_json(folder / "checksums.json", {path.relative_to(folder).as_posix(): sha256_file(path) for path in files})
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str) -> tuple[str, str]:
    """What the command line prints, in this process; it may end by an exit."""
    monkeypatch.setattr(sys, "argv", ["wikigpt", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    return capsys.readouterr()


def test_chat_without_arguments_is_with_it_and_grounded(mini, monkeypatch, capsys):
    out, err = said(monkeypatch, capsys, "chat", "--ask", "What is the capital of France?", "--json")
    assert '"sources"' in out and "France" in out, err


def test_a_base_is_found_by_name_and_none_is_noise(mini):
    recipe = load_recipe("tiny", ['base="wikigpt-mini"'])
    stages = {stage.name: stage for stage in build_stages(recipe, mini.parent / "run")}
    assert stages["tokenizer"].needs == ()  # the base's own
    stages["tokenizer"].run(lambda *_: None)
    assert (mini.parent / "run" / "tokenizer" / "tokenizer.json").is_file()
    assert load_recipe("tiny", ['base="wikigpt-mini"', *cli._with_base(None, Path("none"))]).base is None


def test_what_is_called_so_here_comes_first(mini, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.resolved("wikigpt-mini") == mini
    assert shipped.resolved("wikigpt-mini", "base") == mini / "base"
    Path("wikigpt-mini").mkdir()
    assert shipped.resolved("wikigpt-mini") == Path("wikigpt-mini")
    assert shipped.resolved(Path("runs/mine"), "base") == Path("runs/mine")


@pytest.mark.parametrize("harm", ["a flipped bit", "a file less", "nothing there"])
def test_what_is_missing_or_damaged_is_named_with_the_way_out(harm, mini, monkeypatch, capsys):
    weights = mini / "model" / "model.safetensors"
    if harm == "a flipped bit":
        content = bytearray(weights.read_bytes())
        content[-100] ^= 1
        weights.write_bytes(content)
        expected = f"{weights} is damaged: it does not match its checksum; install WikiGPT again"
    elif harm == "a file less":
        weights.unlink()
        expected = f"{weights} is missing; install WikiGPT again"
    else:
        shutil.rmtree(mini)
        expected = "this installation lacks the model wikigpt-mini"
    with pytest.raises(UserError, match="name a model of your own"):
        shipped.mini()
    _, err = said(monkeypatch, capsys, "chat", "--ask", "hi")
    assert expected in err and "Traceback" not in err
