"""A teacher's answers: by a model here or by a server, kept one by one as they come."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from wikigpt.artifacts import fingerprint, only_writer
from wikigpt.errors import UserError
from wikigpt.tokens import Message
from wikigpt.train.metrics import Progress

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from wikigpt.model import Transformer

KEY = "WIKIGPT_TEACHER_KEY"  # the environment variable that holds the key of a server
TOGETHER = 64  # conversations that a model here answers at a time
REFUSED_AT_FIRST = 8  # requests refused as malformed, before any answer, that say that all would be
RETRIES, PATIENCE = 6, 120.0  # of a request: how often, with pauses from 0.5 to 8 s, and how many seconds for each
ROOM = 8  # tokens that have to be left for an answer

Messages = list[Message]


@dataclass(frozen=True)
class Task:
    """A conversation in which the assistant's turns `blanks` are to be filled, in order."""

    messages: Messages
    blanks: tuple[int, ...]

    @classmethod
    def whole(cls, messages: Messages) -> "Task":
        """All that the assistant says is to be said anew, each turn after what was said anew before it."""
        return cls(messages, tuple(i for i, m in enumerate(messages) if m["role"] == "assistant" and i))

    @classmethod
    def last(cls, messages: Messages) -> "Task | None":
        """Only the answer to the user's last turn is; what the user did not ask for is left out."""
        asked = [i for i, m in enumerate(messages) if m["role"] == "user"]
        if not asked:
            return None
        return cls([*messages[: asked[-1] + 1], {"role": "assistant", "content": ""}], (asked[-1] + 1,))


class Teacher(Protocol):
    """Whoever answers."""

    def fill(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Messages | None]]:
        """Filled conversations as they come, by number; None: it has no (whole) answer to one."""


def answer(
    teacher: Teacher, tasks: Sequence[Task], journal: Path, *, progress: Progress | None = None
) -> list[Messages | None]:
    """Every task filled by the teacher, or None where it could not.

    Each is on the disk, as a line of `journal`, before the next one counts; what is there already is not asked again.

    Args:
        journal: JSON lines; only for these tasks and this teacher.

    Raises:
        UserError: the teacher cannot be asked any more; what it has answered is kept.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(journal.parent):
        done = _read_journal(journal)
        missing = [number for number in range(len(tasks)) if number not in done]
        with journal.open("ab") as file:
            filled = teacher.fill([tasks[number] for number in missing])
            for index, messages in filled:
                number = missing[index]
                line = json.dumps({"number": number, "messages": messages}, ensure_ascii=False)
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                done[number] = messages
                if progress:
                    progress(len(done), len(tasks), f"{len(done):,} conversations answered")
    return [done[number] for number in range(len(tasks))]


def _read_journal(journal: Path) -> dict[int, Messages | None]:
    """What is answered already; half a line that a crash left at the end is cut off."""
    if not journal.is_file():
        return {}
    kept = journal.read_bytes()
    whole = kept[: kept.rfind(b"\n") + 1]
    if len(whole) < len(kept):
        os.truncate(journal, len(whole))
    try:
        return {entry["number"]: entry["messages"] for entry in map(json.loads, whole.splitlines())}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{journal} is damaged ({error!r}); delete it to ask the teacher again.") from None


class EngineTeacher:
    """A model of ours, or one that we import.

    Args:
        cut_too: keep answers that `max_new_tokens` or the context cut.
    """

    def __init__(
        self,
        model: "Transformer",
        tokenizer: "Tokenizer",
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        cut_too: bool = False,
    ):
        from wikigpt.chat.engine import Engine

        self.engine, self.cut_too, self.seed = Engine(model, tokenizer), cut_too, seed
        self.settings = {"max_new_tokens": max_new_tokens, "temperature": temperature}

    @classmethod
    def load(cls, source: Path, **settings: Any) -> "EngineTeacher":
        """From a model folder or a .gguf file; `settings` as above."""
        from wikigpt.tune.learner import load_teacher

        tokenizer, model = load_teacher(source)
        return cls(model, tokenizer, **settings)

    def fill(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Messages | None]]:
        """Filled conversations, some at a time."""
        for start in range(0, len(tasks), TOGETHER):
            group = list(tasks[start : start + TOGETHER])
            filled: list[Messages | None] = [list(task.messages) for task in group]
            for turn in range(max(len(task.blanks) for task in group)):
                asked = [i for i, task in enumerate(group) if filled[i] is not None and turn < len(task.blanks)]
                prompts = {i: (filled[i] or [])[: group[i].blanks[turn]] for i in asked}
                for i, text in self._answers(prompts).items():
                    filled[i] = _with_turn(filled[i], group[i].blanks[turn], text)
            yield from enumerate(filled, start)

    def _answers(self, prompts: dict[int, Messages]) -> dict[int, str | None]:
        room = self.engine.context_length - ROOM
        short = {i: prompt for i, prompt in prompts.items() if self.engine.count_tokens(prompt) <= room}
        # Of the question, not of its place: a run that goes on asks what is left in other company.
        seeds = [int(fingerprint(self.seed, prompt), 16) // 2 for prompt in short.values()]
        completions = self.engine.generate(list(short.values()), seeds=seeds, **self.settings)
        texts = {
            i: c.text if self.cut_too or c.finish_reason == "stop" else None
            for i, c in zip(short, completions, strict=True)
        }
        return {i: texts.get(i) for i in prompts}


class ServerTeacher:
    """A model behind a server with OpenAI's routes; the key comes from the environment variable `KEY` alone.

    Requests that fail for the moment (no connection, 408, 409, 429, 5xx) are made again by the `openai` package.

    Args:
        url: up to and with `/v1`, as a rule.
        model: what the server calls it.
        requests: how many at a time, at most.
    """

    def __init__(self, url: str, model: str, *, max_tokens: int, temperature: float, requests: int):
        try:
            import openai
        except ImportError:
            raise UserError(
                "a teacher behind a URL needs the package openai: pip install 'wikigpt[teacher]'."
            ) from None
        key, address = os.environ.get(KEY), urlsplit(url)
        if key and address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise UserError(f"{url} would carry the key of {KEY} in the clear; use https, or unset {KEY}.")
        self.url, self.model, self.requests = url, model, requests
        self.settings: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        self._openai = openai
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key or "none",  # some servers want none, but the package wants one
            organization="",  # not OPENAI_ORG_ID, which is not this server's business
            project="",
            max_retries=RETRIES,
            timeout=PATIENCE,
        )

    def fill(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Messages | None]]:
        """Filled conversations as they come; the turns of one follow each other, several are at work at a time."""
        waiting = iter(enumerate(tasks))
        failure: Exception | None = None
        running: dict[asyncio.Task[Messages | None], int] = {}
        answered = refused = 0

        async def some_done() -> set[asyncio.Task[Messages | None]]:
            """Keep as many requests under way as there may be, and wait for one."""
            while failure is None and len(running) < self.requests and (following := next(waiting, None)):
                number, task = following
                running[asyncio.create_task(self._fill(task))] = number
            return (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0] if running else set()

        # Not threads, which nothing stops: the end of the process would wait for their requests.
        with asyncio.Runner() as runner:
            try:
                while done := runner.run(some_done()):
                    for request in done:
                        number = running.pop(request)
                        try:
                            messages = request.result()
                        except self._openai.BadRequestError as error:  # such as one that is too long, or filtered
                            refused += 1
                            if not answered and refused >= REFUSED_AT_FIRST:
                                failure = failure or error
                                continue
                            messages = None
                        except self._openai.OpenAIError as error:
                            failure = failure or error
                            continue
                        answered += messages is not None
                        yield number, messages
            finally:
                runner.run(self._leave(list(running)))
        if failure is not None:
            raise self._in_plain_words(failure) from failure

    async def _leave(self, running: Sequence["asyncio.Task[Messages | None]"]) -> None:
        for request in running:
            request.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with contextlib.suppress(self._openai.OpenAIError):
            await self._client.close()

    async def _fill(self, task: Task) -> Messages | None:
        messages: Messages | None = list(task.messages)
        for blank in task.blanks:
            if messages is None:
                return None
            asked: Any = [{"role": m["role"], "content": m["content"]} for m in messages[:blank]]
            try:
                completion = await self._client.chat.completions.create(
                    model=self.model, messages=asked, **self.settings
                )
                choice = completion.choices[0]
                said = None if choice.finish_reason == "length" else choice.message.content
            except (AttributeError, IndexError, TypeError, ValueError) as error:  # a web page, for example
                raise self._openai.OpenAIError(f"its reply is not in OpenAI's form: {error}") from None
            messages = _with_turn(messages, blank, said)
        return messages

    def _in_plain_words(self, error: Exception) -> UserError:
        kept = "the answers that came are kept, and the same command goes on from there"
        status = getattr(error, "status_code", None)
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if status in (401, 403):
            return UserError(
                f"{self.url} refuses the key ({status}); put the right one into {KEY}. {kept.capitalize()}."
            )
        if status == 404:
            return UserError(
                f"{self.url} knows no model {self.model!r}, or is no OpenAI-compatible address ({reason})."
            )
        if status == 429:
            return UserError(
                f"{self.url} says that there are too many requests, or no credit is left ({reason}); wait, or lower "
                f"distill.requests; {kept}."
            )
        if status is not None:
            return UserError(f"{self.url} failed ({reason}); {kept}.")
        return UserError(f"{self.url} cannot be reached ({reason}); {kept}.")


def _with_turn(messages: Messages | None, turn: int, text: str | None) -> Messages | None:
    """The conversation with this said by the assistant; None where there is nothing to say."""
    if messages is None or not isinstance(text, str) or not text.strip():
        return None
    return [*messages[:turn], {**messages[turn], "content": text.strip()}, *messages[turn + 1 :]]
