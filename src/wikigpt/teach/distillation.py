"""The stage of distillation, in each of its kinds."""

import itertools
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt.artifacts import atomic_folder, check_output_folder, fingerprint, read_json, sha256_file
from wikigpt.errors import UserError
from wikigpt.launch import is_main
from wikigpt.teach.start import load_start, load_teacher, save, weights_checksum
from wikigpt.train.metrics import Progress
from wikigpt.train.tuning import DistillConfig, plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from wikigpt.model import Transformer

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

    Raises:
        UserError: teacher or student is missing, both are the same, their tokenizers differ where probabilities are
            learned from, or the server does not answer.
    """
    from wikigpt.model.importing import check_pretrained

    check_output_folder(output, "config.json")
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
    if settings.kind == "sequence":
        return _by_answers(
            teacher, teacher_model, student, conversations, work, output, settings, seed=seed, progress=progress
        )
    tokenizer, loaded, model = load_start(student, work)
    guide = _checked_teacher(Path(teacher), loaded, model)
    origin = fingerprint(weights_checksum(student), weights_checksum(Path(teacher)), _own(settings))
    run = _on_policy if settings.kind == "on-policy" else _by_probabilities
    facts, model = run(
        model, guide, tokenizer, loaded, conversations, work, settings, seed=seed, origin=origin, progress=progress
    )
    facts |= {"teacher": Path(teacher).name, "kind": settings.kind}
    save(model, output, tokenizer, facts)
    return facts


def _is_url(teacher: str) -> bool:
    return teacher.startswith(("http://", "https://"))


def _own(settings: DistillConfig) -> dict[str, Any]:
    """What decides a run's outcome beside the settings of training."""
    return settings.model_dump(include=set(DistillConfig.model_fields) - set(type(plain(settings)).model_fields))


def _checked_teacher(source: Path, tokenizer: "Tokenizer", student: "Transformer") -> "Transformer":
    """The teacher, if its tokens are the student's: there may be more of them, but none with another number."""
    from wikigpt.model import FAMILIES

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
    model: "Transformer",
    teacher: "Transformer",
    tokenizer: Path,
    loaded: "Tokenizer",
    conversations: Path,
    work: Path,
    settings: DistillConfig,
    *,
    seed: int,
    origin: str,
    progress: Progress | None,
) -> "tuple[dict[str, Any], Transformer]":
    from wikigpt.stages import _checksum, _conversations, _training_facts
    from wikigpt.tokens import open_shards, tokenizer_sha256, write_chat_tokens
    from wikigpt.train import Chat, Distill, HiddenStates, train
    from wikigpt.train.distributed import main_first

    length = _length(settings, model, teacher)
    main_first(
        lambda: write_chat_tokens(
            work / "tokens",
            _conversations(conversations),
            loaded,
            tokenizer_sha256(tokenizer),
            max_length=length,
            progress=progress,
        )
    )
    shards, hidden = open_shards(work / "tokens"), None
    if "train" not in shards:
        raise UserError(f"{conversations} holds no conversation of {length} tokens or fewer to learn from.")
    if settings.kind == "hidden":
        _check_layers(settings, model, teacher)
        rows = Chat().packer(shards["train"], length, seed).rows(0, 8)
        hidden = HiddenStates.fitted(model, teacher, rows, settings.hidden_layers, settings.hidden_weight)
    objective = Distill(
        teacher=teacher,
        divergence="reverse" if settings.kind == "reverse" else "forward",
        temperature=settings.temperature,
        mix=settings.mix,
        hidden=hidden,
    )
    origin = fingerprint(origin, _checksum(work / "tokens"))
    result = train(
        model,
        objective,
        shards,
        plain(settings, sequence_length=length),
        work,
        seed=seed,
        origin=origin,
        tokenizer=loaded,
        progress=progress,
    )
    dropped = read_json(work / "tokens" / "tokens.json")["dropped"]
    return {**_training_facts(result, model), "dropped": dropped}, model


def _length(settings: DistillConfig, student: "Transformer", teacher: "Transformer") -> int:
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


def _by_answers(
    teacher: str,
    teacher_model: str | None,
    student: Path,
    conversations: Path,
    work: Path,
    output: Path,
    settings: DistillConfig,
    *,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Sequence-level distillation (Kim & Rush 2016): fine-tuning on what the teacher answers."""
    from wikigpt import stages
    from wikigpt.teach.answers import EngineTeacher, ServerTeacher, Task, answer
    from wikigpt.train.distributed import main_first

    for _ in stages._conversations(conversations):  # says what is wrong with them before anything is asked
        pass
    temperature = settings.answer_temperature or 0.0
    how = [settings.answer_tokens, temperature, sha256_file(conversations / "train.jsonl")]
    entries = [json.loads(line) for line in (conversations / "train.jsonl").read_bytes().splitlines()]
    counts: dict[str, int] = {}

    def answered() -> None:
        tasks = [Task.whole(entry["messages"]) for entry in entries]
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
        found = answer(source, tasks, work / "answers" / f"{made_of}.jsonl", progress=progress)
        written = [{**e, "messages": m} for e, m in zip(entries, found, strict=True) if m is not None]
        if not written:
            raise UserError(f"{teacher} gave no answer of {settings.answer_tokens} tokens or fewer to learn from.")
        counts.update(answered=len(written), unanswered=len(entries) - len(written))
        check_output_folder(work / "conversations", "train.jsonl")
        with atomic_folder(work / "conversations") as folder:
            lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in written)
            (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
            (folder / "validation.jsonl").write_bytes((conversations / "validation.jsonl").read_bytes())

    main_first(answered)
    facts = stages.finetune(
        student, work / "conversations", work, output, settings=plain(settings), seed=seed, progress=progress
    )
    return {**facts, **counts, "teacher": teacher_model or Path(teacher).name, "kind": settings.kind}


def _on_policy(
    model: "Transformer",
    teacher: "Transformer",
    tokenizer: Path,
    loaded: "Tokenizer",
    conversations: Path,
    work: Path,
    settings: DistillConfig,
    *,
    seed: int,
    origin: str,
    progress: Progress | None,
) -> "tuple[dict[str, Any], Transformer]":
    """On-policy distillation (Agarwal et al. 2024): what the student itself says is judged by the teacher.

    In rounds, each of answers by the student as it is and of training on the reverse KL of their tokens; a finished
    round is its model.
    """
    from wikigpt.model import load_model
    from wikigpt.stages import _checksum, _conversations, _training_facts
    from wikigpt.teach.answers import EngineTeacher, Task, answer
    from wikigpt.tokens import open_shards, tokenizer_sha256, write_chat_tokens
    from wikigpt.train import Distill, train
    from wikigpt.train.distributed import main_first

    given = list(_conversations(conversations))
    asked = [task for split, messages in given if split == "train" and (task := Task.last(messages))]
    held_out = [(split, messages) for split, messages in given if split != "train"]
    if not asked:
        raise UserError(f"{conversations} holds no question for the student to answer.")
    if settings.steps is not None and settings.steps < settings.rounds:
        raise UserError(f"distill.steps={settings.steps} are fewer than distill.rounds={settings.rounds}.")
    length = _length(settings, model, teacher)
    temperature = 1.0 if settings.answer_temperature is None else settings.answer_temperature
    origin = fingerprint(origin, length, seed, given, plain(settings).model_dump())
    objective = Distill(teacher=teacher, divergence="reverse", temperature=settings.temperature, mix=1.0)
    facts: dict[str, Any] = {}
    for number in range(1, settings.rounds + 1):
        folder = work / f"rounds-{origin}" / str(number)
        if (folder / "model" / "config.json").is_file():
            model, facts = load_model(folder / "model"), read_json(folder / "model" / "facts.json")
            continue
        chosen = random.Random(f"{seed} {number}").sample(asked, min(settings.round_prompts, len(asked)))
        source = EngineTeacher(
            model,
            loaded,
            max_new_tokens=settings.answer_tokens,
            temperature=temperature,
            seed=random.Random(f"{seed} {number} answers").randrange(LARGEST_SEED),
            cut_too=True,  # what matters is the teacher's word on each token, not that the answer ends
        )

        def said(source: Any = source, chosen: Any = chosen, folder: Path = folder) -> Iterator[tuple[str, Any]]:
            answers = answer(source, chosen, folder / "answers.jsonl", progress=progress)
            return (("train", messages) for messages in answers if messages is not None)

        def prepare(said: Any = said, folder: Path = folder) -> None:
            write_chat_tokens(
                folder / "tokens",
                itertools.chain(said(), held_out),
                loaded,
                tokenizer_sha256(tokenizer),
                max_length=length,
            )

        main_first(prepare)
        part = plain(settings, sequence_length=length, **_share(settings, number))
        if progress and is_main():
            progress(0, 0, f"round {number} of {settings.rounds}: {len(chosen):,} answers of the student's own")
        result = train(
            model,
            objective,
            open_shards(folder / "tokens"),
            part,
            folder,
            seed=seed,
            origin=fingerprint(origin, number, _checksum(folder / "tokens")),
            tokenizer=loaded,
            progress=progress,
        )
        facts = _training_facts(result, model)
        main_first(partial(_keep_round, model, tokenizer, folder, facts))
        model = load_model(folder / "model")  # not compiled, as a resumed run's
    return {**facts, "rounds": settings.rounds}, model


def _share(settings: DistillConfig, number: int) -> dict[str, Any]:
    """A round's part of the time or the steps, and a warm-up that fits it."""
    if settings.steps is None:
        return {"minutes": (settings.minutes or 0) / settings.rounds}
    steps = settings.steps * number // settings.rounds - settings.steps * (number - 1) // settings.rounds
    return {"steps": steps, "warmup_steps": min(settings.warmup_steps, steps // 10)}


def _keep_round(model: "Transformer", tokenizer: Path, folder: Path, facts: dict[str, Any]) -> None:
    from wikigpt.artifacts import write_json
    from wikigpt.model import save_model

    with atomic_folder(folder / "model") as kept:
        save_model(model, kept, tokenizer=tokenizer, card="")
        write_json(kept / "facts.json", facts)
