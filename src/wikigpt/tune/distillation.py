"""The stage of distillation, in each of its kinds."""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from wikigpt.adapt.settings import PROMPT_METHODS, AdapterSettings
from wikigpt.artifacts import (
    atomic_folder,
    check_output_folder,
    fingerprint,
    read_json,
    sha256_file,
    write_atomic,
    write_json,
)
from wikigpt.errors import UserError
from wikigpt.launch import is_main
from wikigpt.model import FAMILIES, Transformer, load_model, save_model
from wikigpt.model.importing import check_pretrained
from wikigpt.tokens.conversations import read_folder
from wikigpt.train import Chat, Distill, HiddenStates
from wikigpt.train.distributed import main_first
from wikigpt.train.metrics import METRICS, Progress, joined_metrics
from wikigpt.train.report import write_training_report
from wikigpt.train.tuning import DistillConfig
from wikigpt.tune.answers import EngineTeacher, ServerTeacher, Task, answer
from wikigpt.tune.finetuning import finetune
from wikigpt.tune.learner import Learner, load_teacher, weights_checksum

LARGEST_SEED = 2**62


def distill(
    teacher: str,
    student: Path,
    conversations: Path,
    work: Path,
    output: Path,
    *,
    settings: DistillConfig,
    teacher_model: str | None = None,
    adapter: AdapterSettings | None = None,
    merge: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a student on conversations with a teacher's help; an interrupted run goes on from `work`.

    Args:
        teacher: model folder, .gguf file, or, for `settings.kind` "sequence", the URL of a server with OpenAI's routes.
        student: model folder, or .gguf file.
        conversations: folder with `train.jsonl` and `validation.jsonl`.
        work: folder for the teacher's answers, encoded conversations, checkpoints and metrics.
        teacher_model: what the server calls the teacher.
        adapter, merge: what of the student is trained, and what is written of that (see `Learner.load`).

    Raises:
        UserError: teacher or student is missing, both are the same, their tokenizers differ where probabilities are
            learned from, or the server does not answer.
    """
    check_pretrained(student)
    if _is_url(teacher):
        if settings.kind != "sequence":
            raise UserError(f"a server gives answers, not the probabilities {settings.kind!r} needs: --kind sequence.")
        if teacher_model is None:
            raise UserError(f"say which of its models {teacher} shall answer with: --teacher-model NAME.")
    else:
        check_pretrained(Path(teacher))
        if Path(teacher).resolve() == student.resolve():
            raise UserError(f"teacher and student are the same model, {student}; give another teacher.")
    told = {"teacher": teacher_model or Path(teacher).name, "kind": settings.kind}
    how: dict[str, Any] = {"adapter": adapter, "merge": merge, "seed": seed, "progress": progress}
    if settings.kind == "sequence":
        answers, counts = work / "conversations", work / "answers" / "counts.json"
        check_output_folder(
            output, "config.json" if merge or not (adapter and adapter.is_adapter) else "adapter_config.json"
        )
        main_first(lambda: _answer(teacher, teacher_model, conversations, work, settings, seed=seed, progress=progress))
        facts = finetune(student, answers, work, output, settings=settings.training(), **how)
        return {**facts, **read_json(counts), **told}
    learner = Learner.load(student, work, output, **how)
    if learner.adapter.method in PROMPT_METHODS:
        raise UserError(f"a {learner.adapter.method} puts tokens before a text that a teacher does not know; use lora.")
    guide = _checked_teacher(Path(teacher), learner.tokenizer, learner.model)
    made_of = (weights_checksum(Path(teacher)), settings.own())
    if settings.kind == "on-policy":
        facts = _on_policy(learner, guide, conversations, settings, made_of=made_of)
    else:
        facts = _by_probabilities(learner, guide, conversations, settings, made_of=made_of)
    learner.save({**facts, **told})
    return {**facts, **told}


def _is_url(teacher: str) -> bool:
    return teacher.startswith(("http://", "https://"))


def _checked_teacher(source: Path, tokenizer: Tokenizer, student: Transformer) -> Transformer:
    """The teacher, if its tokens are the student's: there may be more of them, but none with another number."""
    others, teacher = load_teacher(source)
    if not FAMILIES[teacher.config.family].causal:
        raise UserError(f"{source} is a {teacher.config.family} model, which fills masks and cannot teach to chat.")
    if not tokenizer.get_vocab().items() <= others.get_vocab().items() or (
        teacher.config.vocab_size < student.config.vocab_size
    ):
        raise UserError(
            f"{source} has another tokenizer than the student, so their probabilities cannot be compared; "
            "learn from its answers instead: --kind sequence."
        )
    return teacher


def _by_probabilities(
    learner: Learner, teacher: Transformer, conversations: Path, settings: DistillConfig, *, made_of: tuple[Any, ...]
) -> dict[str, Any]:
    model = learner.model
    length, hidden = _length(settings, model, teacher), None
    shards = learner.encode(read_folder(conversations), length, source=conversations)
    if settings.kind == "hidden":
        _check_layers(settings, model, teacher)
        rows = Chat().packer(shards["train"], length, learner.seed).rows(0, 8)
        hidden = HiddenStates.fitted(model, teacher, rows, settings.hidden_layers, settings.hidden_weight)
    objective = Distill(
        teacher=teacher,
        divergence="reverse" if settings.kind == "reverse" else "forward",
        temperature=settings.temperature,
        mix=settings.mix,
        prompts=settings.prompts,
        hidden=hidden,
    )
    result = learner.train(objective, shards, settings.training(sequence_length=length), made_of=made_of)
    return learner.facts(result, dropped=learner.dropped)


def _length(settings: DistillConfig, student: Transformer, teacher: Transformer) -> int:
    """Tokens a row: no more than either model's context."""
    wanted = settings.sequence_length or student.config.context_length
    if wanted > teacher.config.context_length and settings.sequence_length:
        raise UserError(
            f"sequence_length={wanted} is longer than the teacher's context; set it to "
            f"{teacher.config.context_length} at most."
        )
    return min(wanted, teacher.config.context_length)


def _check_layers(settings: DistillConfig, student: "Transformer", teacher: "Transformer") -> None:
    depths = student.config.n_layers, teacher.config.n_layers
    for pair in settings.hidden_layers or ():
        if not all(0 <= layer < depth for layer, depth in zip(pair, depths, strict=True)):
            raise UserError(
                f"distill.hidden_layers: there is no pair {pair}; the student has blocks 0 to {depths[0] - 1}, the "
                f"teacher 0 to {depths[1] - 1}."
            )


def _answer(
    teacher: str,
    teacher_model: str | None,
    conversations: Path,
    work: Path,
    settings: DistillConfig,
    *,
    seed: int,
    progress: Progress | None,
) -> None:
    """Sequence-level distillation (Kim & Rush 2016): write `work/conversations` with what the teacher answers."""
    for _ in read_folder(conversations):  # says what is wrong with them before anything is asked
        pass
    temperature = settings.answer_temperature or 0.0
    how = [settings.answer_tokens, temperature, sha256_file(conversations / "train.jsonl")]
    entries = [json.loads(line) for line in (conversations / "train.jsonl").read_bytes().splitlines()]
    if _is_url(teacher):
        made_of = fingerprint(teacher, teacher_model, how)
        source: Any = ServerTeacher(
            teacher,
            str(teacher_model),
            max_tokens=settings.answer_tokens,
            temperature=temperature,
            requests=settings.requests,
        )
    else:
        made_of = fingerprint(weights_checksum(Path(teacher)), how, seed)
        source = EngineTeacher.load(
            Path(teacher), max_new_tokens=settings.answer_tokens, temperature=temperature, seed=seed
        )
    tasks = [Task.whole(entry["messages"]) for entry in entries]
    found = answer(source, tasks, work / "answers" / f"{made_of}.jsonl", progress=progress)
    written = [{**e, "messages": m} for e, m in zip(entries, found, strict=True) if m is not None]
    if not written:
        raise UserError(f"{teacher} gave no answer of {settings.answer_tokens} tokens or fewer to learn from.")
    check_output_folder(work / "conversations", "train.jsonl")
    with atomic_folder(work / "conversations") as folder:
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in written)
        (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
        (folder / "validation.jsonl").write_bytes((conversations / "validation.jsonl").read_bytes())
    counts = {"answered": len(written), "unanswered": len(entries) - len(written)}
    write_json(work / "answers" / "counts.json", counts)


def _on_policy(
    learner: Learner, teacher: Transformer, conversations: Path, settings: DistillConfig, *, made_of: tuple[Any, ...]
) -> dict[str, Any]:
    """On-policy distillation (Agarwal et al. 2024): what the student itself says is judged by the teacher.

    In rounds, each of answers by the student as it is and of training on the reverse KL of their tokens; a finished
    round is its model, which `learner` then holds.
    """
    if learner.adapter.method != "full":
        raise UserError("on-policy distillation trains all weights; leave the adapter out.")
    given = list(read_folder(conversations))
    asked = [task for split, messages in given if split == "train" and (task := Task.last(messages))]
    held_out = [(split, messages) for split, messages in given if split != "train"]
    if not asked:
        raise UserError(f"{conversations} holds no question for the student to answer.")
    if settings.steps is not None and settings.steps < settings.rounds:
        raise UserError(f"distill.steps={settings.steps} are fewer than distill.rounds={settings.rounds}.")
    seed, length = learner.seed, _length(settings, learner.model, teacher)
    temperature = 1.0 if settings.answer_temperature is None else settings.answer_temperature
    origin = fingerprint(
        *made_of, weights_checksum(learner.base), length, seed, given, settings.training().model_dump()
    )
    objective = Distill(teacher=teacher, divergence="reverse", temperature=settings.temperature, mix=1.0)
    facts: dict[str, Any] = {}
    for number in range(1, settings.rounds + 1):
        folder = learner.work / f"rounds-{origin}" / str(number)
        if not (folder / "model" / "config.json").is_file():
            this = replace(learner, work=folder)
            chosen = random.Random(f"{seed} {number}").sample(asked, min(settings.round_prompts, len(asked)))
            source = EngineTeacher(
                learner.model,
                learner.tokenizer,
                max_new_tokens=settings.answer_tokens,
                temperature=temperature,
                seed=random.Random(f"{seed} {number} answers").randrange(LARGEST_SEED),
                cut_too=True,  # what matters is the teacher's word on each token, not that the answer ends
            )
            said = _said(source, chosen, folder / "answers.jsonl", learner.progress)
            if learner.progress and is_main():
                learner.progress(0, 0, f"round {number} of {settings.rounds}: {len(chosen):,} answers of the student")
            shards = this.encode(itertools.chain(said, held_out), length, source=conversations)
            part = settings.training(sequence_length=length, **_share(settings, number))
            result = this.train(objective, shards, part, made_of=(origin, number))
            main_first(partial(_keep_round, this, this.facts(result)))
        facts = read_json(folder / "model" / "facts.json")
        learner.model = load_model(folder / "model")  # not compiled, as a resumed run's
        main_first(partial(_report_rounds, learner.work, folder.parent, number))
    return {**facts, "rounds": settings.rounds}


def _report_rounds(work: Path, rounds: Path, last: int) -> None:
    """One log and one page of all rounds so far."""
    entries = joined_metrics([rounds / str(number) / METRICS for number in range(1, last + 1)])
    write_atomic(work / METRICS, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
    write_training_report(work)


def _said(
    source: EngineTeacher, chosen: list[Task], journal: Path, progress: Progress | None
) -> Iterator[tuple[str, Any]]:
    for messages in answer(source, chosen, journal, progress=progress):
        if messages is not None:
            yield "train", messages


def _share(settings: DistillConfig, number: int) -> dict[str, Any]:
    """A round's part of the time or the steps, and a warm-up that fits it."""
    if settings.steps is None:
        return {"minutes": (settings.minutes or 0) / settings.rounds}
    steps = settings.steps * number // settings.rounds - settings.steps * (number - 1) // settings.rounds
    return {"steps": steps, "warmup_steps": min(settings.warmup_steps, steps // 10)}


def _keep_round(learner: Learner, facts: dict[str, Any]) -> None:
    with atomic_folder(learner.work / "model") as kept:
        save_model(learner.model, kept, tokenizer=learner.tokenizer_folder, card="")
        write_json(kept / "facts.json", facts)
