"""Exercises in reading: what they ask stands before them, and they are mixed into pretraining row by row."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import wikigpt
from test_instruct import HELD_OUT, countries
from test_train import make_shard
from wikigpt.chat.grounding import cited
from wikigpt.corpus import Document
from wikigpt.errors import UserError
from wikigpt.instruct import InstructSettings, Made, Share, make_conversations
from wikigpt.instruct.gate import passages_of, stands_in, value_of
from wikigpt.model import ModelConfig, Transformer
from wikigpt.recipe import load_recipe
from wikigpt.tokens import Shard, open_shards
from wikigpt.tokens.shards import EXERCISES
from wikigpt.train import CausalLM, Chat, TrainConfig, evaluate_shards
from wikigpt.train.batches import Batch, MixedRows, Packer

SHARE = Share(weight=6, maximum=200)
KINDS = "copy", "recall", "gaps", "quiz"


@pytest.fixture(scope="module")
def made() -> Made:
    chosen = InstructSettings(copy_text=SHARE, recall=SHARE, gaps=SHARE, quiz=SHARE, counterfactual=0.9, invented=0.5)
    return make_conversations(countries(), chosen, 3)


def of(made: Made, kind: str, lang: str) -> list[list[str]]:
    return [[m["content"] for m in c["messages"]] for c in made.train if (c["task"], c["lang"]) == (kind, lang)]


def test_there_are_none_unless_they_are_asked_for() -> None:
    counts = make_conversations(countries(), InstructSettings(), 3).counts
    assert not {kind for lang in counts.values() for kind in lang["train"]} & set(KINDS)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_answer_stands_in_what_was_said_before(made: Made, lang: str) -> None:
    copies, recalls, gaps, quizzes = (of(made, kind, lang) for kind in KINDS)
    assert min(map(len, (copies, recalls, gaps, quizzes))) > 30
    for asked, answer in copies:
        assert answer in asked
    if lang == "en":  # Chinese passages here are one sentence each
        assert any(re.search("“.+”", asked) for asked, _ in copies)  # a sentence by its beginning
    for turns in recalls:
        entries, _, first = turns[0].rpartition("\n\n")
        for question, answer in zip([first, *turns[2::2]], turns[1::2], strict=True):
            (line,) = (e for e in entries.splitlines() if any(n and n in question for n in names_in(e)))
            assert line.rstrip("。.").endswith(value_of(answer))
    for turns in gaps:
        passages = passages_of(turns[0])
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            after = question.splitlines()[-1].partition("____")[2]
            (place,) = cited(answer)
            assert value_of(answer) + after[:5] in passages[place]
    for turns in quizzes:
        passages = passages_of(turns[0])
        for answer in turns[1::2]:
            (place,) = cited(answer)
            assert stands_in(value_of(answer), passages[place])
    assert max(map(len, quizzes)) > 2 and max(map(len, recalls)) > 4  # several questions over the same


def names_in(entry: str) -> list[str]:
    """What may be the name in an entry of a list, in any of its forms."""
    return re.findall(r"^(?:The word for )?(.+?)(?:：|: | = |=| - | is | has |对应|的是)", entry)


def test_what_is_known_by_heart_does_not_help(made: Made) -> None:
    capitals = {d.title: dict(d.facts)["capital"] for d in countries() if d.lang == "en"}
    true = told = 0
    for turns in of(made, "quiz", "en"):
        for number, passage in passages_of(turns[0]).items():
            title = passage.partition(":")[0]
            for question, answer in zip(turns[::2], turns[1::2], strict=True):
                if [number] == cited(answer) and "capital" in question.splitlines()[-1].lower():
                    told += 1
                    true += capitals.get(title) == value_of(answer)
    assert told > 20 and true < told / 4


def test_passages_beside_each_other_are_mostly_of_things_of_a_kind() -> None:
    """Else the sort of thing that is asked for would tell the passage, and the name be of no use."""
    elements = [
        Document(
            f"x{i}",
            "1",
            "",
            f"Elementum{chr(97 + i)}",
            f"Elementum{chr(97 + i)} is a metal.",
            "en",
            facts=(("symbol", f"X{chr(97 + i)}"), ("atomic_number", str(200 + i))),
        )
        for i in range(20)
    ]
    chosen = InstructSettings(quiz=SHARE, counterfactual=0, invented=0)
    beside = []
    for turns in of(make_conversations([*countries(), *elements], chosen, 3), "quiz", "en"):
        of_elements = [text.startswith("Elementum") for text in passages_of(turns[0]).values()]
        beside += [sum(of_elements) in (0, len(of_elements))] if len(of_elements) > 1 else []
    assert len(beside) > 50 and sum(beside) > 0.7 * len(beside)  # by chance 0.3


def test_held_out_exercises_are_of_held_out_articles_and_others_never(made: Made) -> None:
    for entries, held_out in ((made.train, False), (made.validation, True)):
        sources = [s["title"] for c in entries if c["task"] in KINDS and c["lang"] == "en" for s in c["sources"]]
        assert sources and all((title in HELD_OUT) == held_out for title in sources)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.floats(0.01, 0.99),
    st.integers(0, 50),
    st.integers(1, 40),
    st.integers(0, 30),
)
def test_mixed_rows_are_each_kind_in_its_own_order(texts, exercises, share, first, count, alone) -> None:
    text = Packer(make_shard(texts, masked=False), 30, seed=1, whole_documents=False)
    other = make_shard(exercises, masked=True)
    other.tokens[:] += 10_000
    exercise = Packer(other, 30, seed=1, whole_documents=True)
    mixed = MixedRows(text, exercise, share, alone=alone)
    batch = mixed.rows(first, count)
    whole = mixed.rows(0, first + count)
    assert torch.equal(batch.input_ids, whole.input_ids[first:])  # which row it is depends on its number alone
    is_exercise = (whole.input_ids > 10_000).any(1)
    n = int(is_exercise.sum())
    assert is_exercise[:alone].all()
    assert abs(n - min(alone, first + count) - share * max(0, first + count - alone)) < 1
    assert torch.equal(whole.input_ids[is_exercise], exercise.rows(0, n).input_ids)
    assert torch.equal(whole.targets[~is_exercise], text.rows(0, first + count - n).targets)


def test_a_build_pretrains_on_exercises_and_measures_them_apart(tmp_path: Path) -> None:
    small = ["corpus.max_documents=400", "pretrain.steps=3", "pretrain.exercise_share=0.5", "pretrain.evaluate_every=3"]
    some = [f"exercises.{name}={{weight=1, maximum=60}}" for name in ("copy_text", "recall", "quiz")]
    some.append("exercises.gaps={weight=0, maximum=0}")  # too few held-out articles to measure them on
    settings = [part for setting in (*small, *some) for part in ("--set", setting)]
    run = tmp_path / "run"
    done = wikigpt("build", "tiny", "--run", run, "--until", "pretrain", *settings)
    assert done.returncode == 0 and "✓ exercises" in done.stdout, done.stderr
    shards = open_shards(run / "tokens")
    languages = {name for name in shards if name in ("en", "zh")}
    measured_apart = {f"{lang} {kind}" for lang in languages for kind in ("copy", "recall", "quiz")}
    assert set(shards) == {"train", EXERCISES} | languages | measured_apart and languages
    assert shards["train"].mask is None and 0 < shards[EXERCISES].mask.mean() < 0.8
    made = json.loads((run / "exercises" / "instruct.json").read_text())["languages"]
    assert all(set(counts[part]) <= set(KINDS) for counts in made.values() for part in ("train", "validation"))
    log = [json.loads(line) for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    measured = next(entry for entry in reversed(log) if "held_out_loss" in entry)["held_out_loss"]
    assert set(measured) == languages | measured_apart

    command = [
        "pretrain",
        run / "corpus",
        "--tokenizer",
        run / "tokenizer",
        "-o",
        tmp_path / "base",
        "--recipe",
        "tiny",
    ]
    command += ["--set", "pretrain.steps=1", "--exercises"]
    missing = wikigpt(*command, tmp_path)
    assert missing.returncode == 2 and "train.jsonl is missing; make conversations" in missing.stderr
    done = wikigpt(*command, run / "exercises")
    assert done.returncode == 0, done.stderr
    assert EXERCISES in open_shards(tmp_path / "base.work" / "tokens")


def test_a_masked_model_is_told_that_it_has_no_use_for_them() -> None:
    with pytest.raises(UserError, match="learns from no exercises"):
        load_recipe("tiny", ["model.shape=bert-mini", "exercises.recall={weight=1, maximum=20}"])


def test_a_share_that_leaves_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="exercise_share"):
        TrainConfig(steps=1, exercise_share=1.0)
    assert np.isclose(TrainConfig(steps=1).exercise_share, 0.3)


def test_right_answers_are_those_that_greedy_decoding_would_give() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    conversations = [rng.integers(1, 40, 13) for _ in range(12)]  # two answers each: tokens 4 to 6 and 9 to 12
    mask = np.isin(np.arange(13), (4, 5, 6, 9, 10, 11, 12)).astype(np.uint8)
    shard = Shard(
        "x",
        np.concatenate(conversations).astype(np.uint16),
        np.arange(0, 13 * 12 + 1, 13).astype(np.uint64),
        np.tile(mask, 12),
        100,
    )
    model = Transformer(ModelConfig(n_layers=2, d_model=32, n_heads=2, context_length=40, vocab_size=40))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    shares = []
    for _ in range(4):
        right = 0
        for ids in conversations:
            for begin, end in ((4, 7), (9, 13)):
                written = ids[:begin].tolist()
                while len(written) < end:
                    written.append(int(model(torch.tensor([written]))[0, -1].argmax()))
                right += written[begin:] == ids[begin:end].tolist()
        sizes = {"sequence_length": 40, "batch_size": 2, "max_tokens": 1000}
        texts = evaluate_shards(model, CausalLM(), {"x": shard}, **sizes)["x"]
        chats = evaluate_shards(model, Chat(), {"x": shard}, **sizes)["x"]
        assert texts.measures == chats.measures == {"answers_right": right / 24}
        assert texts.bits_per_byte is None and chats.bits_per_byte is not None
        shares.append(right)
        for _ in range(12):
            batch = Chat().packer(shard, 40, 0).rows(0, 4)
            (Chat().loss(model, batch) / batch.n_targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert shares[0] == 0 and shares[-1] > 0 and len(set(shares)) > 2, shares


def test_weighted_rows_count_as_if_they_were_repeated() -> None:
    text = Packer(make_shard([9] * 20, masked=False), 24, seed=1, whole_documents=False)
    other = Packer(make_shard([8] * 20, masked=True), 24, seed=1, whole_documents=True)
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=1, d_model=32, n_heads=2, context_length=24, vocab_size=200))
    outcomes = []
    batch = MixedRows(text, other, 0.5, weight=3.0).rows(0, 6)
    once = MixedRows(text, other, 0.5).rows(0, 6)
    assert once.weights is None and batch.weights is not None and batch.weights.tolist() == [1, 3] * 3
    repeated = torch.arange(6).repeat_interleave(batch.weights.long())
    for rows in (batch, Batch(once.input_ids[repeated], once.targets[repeated], once.document_ids[repeated])):
        model.zero_grad()
        pieces = list(rows.split(4))
        count = sum(CausalLM().count(piece) for piece in pieces)
        loss = sum(CausalLM().loss(model, piece) for piece in pieces) / count
        loss.backward()
        outcomes.append((count, loss.item(), [p.grad.clone() for p in model.parameters()]))
    (count, loss, gradients), (same_count, same_loss, same_gradients) = outcomes
    assert count == same_count and loss == pytest.approx(same_loss, rel=1e-6)
    for a, b in zip(gradients, same_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
