"""What SmolLM2-135M-Instruct scores in each task: asked plainly, shown examples, and after fine-tuning.

Each task has texts to learn from and others to measure on, both drawn with one seed; nothing is in both. The examples
are the four most similar texts (of passages with questions: one). Fine-tuning is LoRA, once for all tasks together, on
the conversations that `wikigpt prompts export` makes. What is measured is the default template of the task and
language; `wikigpt prompts search` may find a better one. `--only write` takes the tasks so called alone.
Writing freely has no right answer: what is measured is how near it comes to an encyclopedia's words on the subject.

| task | texts | answers |
|---|---|---|
| sentiment | SST-2; ChnSentiCorp | positive or negative |
| classify | introductions of the vital articles | one of eleven topics |
| qa | XQuAD, English and Chinese, with passages; learned from other articles' | words of the passage |
| translate | Tatoeba, both ways | |
| summarise | introductions of the vital articles; CSL's abstracts | Wikidata's description; the paper's title |
| dialogue | ChatterBot, English and Chinese | a reply |
| write | titles of the vital articles, and of Chinese Wikipedia's | how the article begins |
"""

import csv
import gzip
import io
import itertools
import json
import lzma
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from common import DATA, arguments, report, result
from smollm2 import LORA, TRAINING, prepare_base
from wikigpt.adapt import TaskRunner, load_templates
from wikigpt.adapt.examples import Row
from wikigpt.adapt.prompts import Template, find_task, find_template
from wikigpt.adapt.search import measure
from wikigpt.adapt.tasks import export_conversations
from wikigpt.chat.engine import Engine
from wikigpt.train import TrainConfig
from wikigpt.train.machine import physical_cores
from wikigpt.tune import finetune

LONGEST = 400  # characters of a text
TO_LEARN = 1000
CHOSEN, WRITTEN = 100, 60  # texts to measure on


@dataclass(frozen=True)
class Case:
    """A task in a language, with what is learned and what is asked."""

    name: str
    template: Template
    settings: dict[str, Any]
    learned: list[Row]
    asked: list[Row]
    shots: int = 4


def main() -> None:
    """Measure by prompt, fine-tune, measure again, print, write."""
    options = arguments(__doc__, minutes=10.0, work="", only="")
    torch.set_num_threads(physical_cores())
    everything = [case for case in cases() if case.name.startswith(options.only)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.work or temporary)
        prepare_base(folder)
        base = engine_of(folder / "base")
        scores = {case.name: [score(base, case, 0), score(base, case, case.shots)] for case in everything}
        tuned = engine_of(fine_tuned(folder, everything, options.minutes))
        for case in everything:
            scores[case.name].append(score(tuned, case, 0))
    rows = []
    print("| task | measure | by prompt | with examples | fine-tuned |\n|---|---|---|---|---|")
    for case in everything:
        measures = list(scores[case.name][0])
        for name in measures:
            values = [found[name] for found in scores[case.name]]
            print(f"| {case.name} | {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
        main_one = [found[measures[0]] for found in scores[case.name]]
        rows.append(
            result(
                f"task {case.name}, {len(case.asked)} texts: {measures[0]} after fine-tuning",
                [main_one[2]],
                [max(main_one[0], 1e-3)],
                peer_name="the same model by prompt",
                unit="share",
            )
        )
    report(rows, options.json)


def engine_of(folder: Path) -> Engine:
    """The model, in bf16: three times as fast with AMX."""
    engine = Engine.from_folder(folder)
    engine.model.bfloat16()
    return engine


def score(engine: Engine, case: Case, shots: int) -> dict[str, float]:
    """The case's measures, the main one first."""
    begin = time.perf_counter()
    runner = TaskRunner(
        engine, case.template, examples=case.learned, shots=shots, sampling={"temperature": 0.0}, **case.settings
    )
    found = measure(runner.task, list(runner.answer(case.asked)), case.asked, runner.words)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    print(f"{case.name}, {shots} shots: {means}, {time.perf_counter() - begin:.0f} s", flush=True)
    return means


def fine_tuned(folder: Path, everything: list[Case], minutes: float) -> Path:
    """LoRA on what all tasks have to learn from, merged."""
    conversations, work = folder / "task-conversations", folder / "task-work"
    for old in (conversations, work):
        shutil.rmtree(old, ignore_errors=True)
    conversations.mkdir(parents=True)
    made = []
    for case in everything:
        made += export_conversations(case.learned, [case.template], **case.settings)
    random.Random(0).shuffle(made)
    for name, part in (("train", made[200:]), ("validation", made[:200])):
        lines = (json.dumps(conversation, ensure_ascii=False) + "\n" for conversation in part)
        (conversations / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    finetune(
        folder / "base",
        conversations,
        work,
        work / "model",
        settings=TrainConfig(minutes=minutes, **TRAINING),
        adapter=LORA,
        merge=True,
    )
    return work / "model"


def cases() -> Iterator[Case]:
    """All tasks that have right answers."""
    sst2 = [Row({"text": text}, (label,)) for text, label in _table("sst2-train.tsv")]
    held_out = [Row({"text": text}, (label,)) for text, label in _table("sst2-dev.tsv")]
    labels = {"labels": {"0": "negative", "1": "positive"}}
    yield _case("sentiment, English", "sentiment", sst2, held_out, **labels)
    reviews = [Row({"text": text}, (label,)) for label, text in _table("chnsenticorp-7766.csv.gz", ",")[1:]]
    yield _case("sentiment, Chinese", "sentiment-zh", reviews, **labels)

    vital = [article for article in _lines("text/vital-en.jsonl.gz") if article["extract"]]
    topics = [
        Row({"text": article["extract"]}, (article["topic"],))
        for article in vital
        if article["topic"] != "Uncategorized"
    ]
    names = {row.answers[0]: row.answers[0] for row in topics}
    yield _case("classify, English", "classify", topics, labels=dict(sorted(names.items())))

    for lang, template in (("en", "qa-passage"), ("zh", "qa-zh-passage")):
        articles = json.loads(_bytes(f"eval/xquad.{lang}.json.gz"))["data"]
        parts = [list(_questions(half)) for half in (articles[: len(articles) // 2], articles[len(articles) // 2 :])]
        yield _case(f"qa, {'English' if lang == 'en' else 'Chinese'}", template, *parts, shots=1)

    pairs = [(english, chinese) for english, chinese, *_ in _table("tatoeba-en-zh-train.tsv.gz") if len(english) > 15]
    to_zh = [Row({"text": english}, (chinese,)) for english, chinese in pairs]
    to_en = [Row({"text": chinese}, (english,)) for english, chinese in pairs]
    yield _case("translate, English to Chinese", "translate", to_zh, to="zh")
    yield _case("translate, Chinese to English", "translate", to_en, to="en")

    described = [Row({"text": article["extract"]}, (article["description"],)) for article in vital]
    yield _case("summarise, English", "summarise", [row for row in described if row.answers[0]])
    titled = [Row({"text": text}, (title,)) for _, text, title in _table("csl-summ-zh-dev.tsv.gz")]
    yield _case("summarise, Chinese", "summarise-zh-title", titled)

    for name, template in (("English", "dialogue"), ("Chinese", "dialogue-zh")):
        yield _case(f"dialogue, {name}", template, list(_replies(DATA / "chat" / "chatterbot" / name.lower())))

    begun = {"write": [(article["title"], article["extract"]) for article in vital], "write-zh": _chinese_articles()}
    for template, articles in begun.items():
        rows = [Row({"text": title}, (_cut(text),)) for title, text in articles if _cut(text)]
        yield _case(f"write, {'Chinese' if 'zh' in template else 'English'}", template, rows)


def _case(
    name: str, template: str, learned: list[Row], asked: list[Row] | None = None, shots: int = 4, **settings: Any
) -> Case:
    """Some of the rows, the same each time; without rows to ask of their own, those that are not learned from."""
    found = find_template(load_templates(), template)
    rng, most = random.Random(0), CHOSEN if find_task(found.task).chosen else WRITTEN
    learned, asked = (_short(rows, rng) for rows in (learned, asked or []))
    if not asked:
        learned, asked = learned[most:], learned[:most]
    texts = {tuple(row.values.items()) for row in asked[:most]}
    learned = [row for row in learned if tuple(row.values.items()) not in texts]
    return Case(name, found, settings, learned[:TO_LEARN], asked[:most], shots)


def _short(rows: list[Row], rng: random.Random) -> list[Row]:
    """The rows in another order, long texts cut at the end of a sentence or left out; passages stay as they are."""
    kept = []
    for row in rows:
        text = row.values.get("text", "")
        text = _cut(text)
        if "text" not in row.values or text.strip():
            kept.append(Row({**row.values, "text": text} if "text" in row.values else row.values, row.answers))
    rng.shuffle(kept)
    return kept


def _cut(text: str) -> str:
    """A text that is too long up to the end of a sentence; "" where there is none."""
    if len(text) <= LONGEST:
        return text
    end = max(text.rfind(mark, 0, LONGEST) for mark in (". ", "。", ".", "；", "，"))
    return text[: end + 1] if end > 0 else ""


def _chinese_articles() -> list[tuple[str, str]]:
    """Titles and beginnings of articles."""
    with lzma.open(DATA / "text" / "zhwiki.jsonl.xz", "rt", encoding="utf-8") as lines:
        rows = (json.loads(line) for line in itertools.islice(lines, 2 * TO_LEARN))
        return [(row["title"], row["text"].split("\n\n")[0][:300]) for row in rows]


def _questions(articles: list[dict[str, Any]]) -> Iterator[Row]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                values = {"question": qa["question"], "context": paragraph["context"]}
                yield Row(values, tuple(answer["text"] for answer in qa["answers"]))


def _replies(folder: Path) -> Iterator[Row]:
    for file in sorted(folder.glob("*.yml")):
        for first, *replies in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]:
            if replies:
                yield Row({"text": str(first)}, (str(replies[0]),))


def _table(name: str, delimiter: str = "\t") -> list[list[str]]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    text = io.StringIO(_bytes(f"eval/{name}").decode("utf-8"))
    return [cells for cells in csv.reader(text, delimiter=delimiter, quoting=quoting) if len(cells) > 1]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _bytes(name).splitlines()]


def _bytes(name: str) -> bytes:
    content = (DATA / name).read_bytes()
    return gzip.decompress(content) if name.endswith(".gz") else content


if __name__ == "__main__":
    main()
