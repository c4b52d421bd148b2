"""A conversation: history, and answers that stand on the wiki.

A grounded answer is made in four steps. (1) The question is made to stand alone, and passages are searched for it.
(2) The model answers from these passages. (3) Its answer is shown only if it was sure, names a passage, and the fact it
states stands in that passage. (4) Otherwise the sentence that answers best is quoted and marked as a quotation; if no
sentence speaks of what was asked, the answer says that the wiki does not hold it. What names nothing that the wiki
knows may also be talk: then what the model says without passages is shown, if it is sure and states no fact.
"""

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wikigpt.artifacts import write_atomic
from wikigpt.chat.followup import (
    leaves_subject_out,
    names_new_subject_only,
    pointer,
    with_new_subject,
    with_subject,
)
from wikigpt.chat.grounding import NOT_FOUND, cited, grounded_prompt, with_citation, without_citations
from wikigpt.chat.smalltalk import is_small_talk
from wikigpt.chat.tools import CALL, ToolUse, called, response_text
from wikigpt.encryption import Key, is_encrypted
from wikigpt.errors import UserError
from wikigpt.knowledge.asked import known_relations
from wikigpt.knowledge.index import Hit, Index
from wikigpt.knowledge.reading import Quote, Relations, find_quote, unknown_names, value_parts
from wikigpt.knowledge.spelling import corrected
from wikigpt.knowledge.text import find_units, fold, holds, units

if TYPE_CHECKING:
    from wikigpt.chat.answering import Completion
    from wikigpt.chat.backend import Backend
    from wikigpt.tokens import Message

_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", re.DOTALL)
_WORD = re.compile(r"\w")
_DIGIT = re.compile(r"\d")
_HAN = re.compile(r"[\u3400-\u9fff]")
FORMAT = 1

_DRAFT_CONFIDENCE = -1.5  # a draft need not be right, but must be a sentence
_UNNAMED = 0.5  # "What will the weather be tomorrow?" has 0.36, by "from this day on days grow longer"
_MOST_CALLS = 3  # of tools, for one answer
_CERTAIN = 0.6  # coverage from which on a quotation needs no draft


class ChatSettings(BaseModel):
    """How answers are made; `/set` in the terminal changes one of them."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    max_new_tokens: int = Field(default=256, ge=1, le=100_000)
    """Tokens an answer may have."""
    temperature: float = Field(default=0.0, ge=0, le=10)
    """0 takes the likeliest token always; higher is freer."""
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON that this schema allows; it is the model's alone, for quotations would not keep to it."""
    grounded: bool = True
    """Answer from the wiki, with sources."""
    passages: int = Field(default=3, ge=1, le=50)
    """Passages of the wiki that the model reads for a grounded answer."""
    min_confidence: float = Field(default=-0.25, le=0)
    """A grounded answer of a smaller mean log-probability (natural logarithm, per token) gives way to a quotation."""
    min_coverage: float = Field(default=0.25, ge=0, le=1)
    """The share of what was asked that a sentence must speak of to be shown at all."""

    def sampling(self) -> dict[str, Any]:
        """Return the arguments that the engine takes."""
        return self.model_dump(exclude={"grounded", "passages", "min_confidence", "min_coverage"})


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer stands on; `number` is the n of its `[n]`."""

    number: int
    title: str
    url: str
    revision: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: `text` as shown, `said_by_model` what the model itself wrote (empty if it was not asked).

    `quoted`: the text is a marked quotation; `refused`: it says that the wiki does not hold the answer; `notice` tells
    of anything left out on the way; `interrupted`: the user stopped it; `tools`: what was worked out for it.
    """

    text: str
    lang: str = "en"
    sources: tuple[Source, ...] = ()
    said_by_model: str = ""
    quoted: bool = False
    refused: bool = False
    notice: str = ""
    interrupted: bool = False
    tools: tuple[ToolUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with its answer; `standalone` is the question as searched, `subject` the article it is about."""

    question: str
    answer: Answer
    standalone: str = ""
    subject: str = ""
    subject_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the wiki offers for a question, before the model says anything."""

    question: str
    standalone: str
    lang: str
    hits: tuple[Hit, ...] = ()
    """Passages that the model reads."""
    article_hits: tuple[Hit, ...] = ()
    """Passages that a quotation may come from."""
    subject: str = ""
    subject_names: tuple[str, ...] = ()
    quote: Quote | None = None
    """The sentence that answers best, as far as can be told without a draft."""
    messages: "tuple[Message, ...]" = ()
    notice: str = ""
    """What the user is to know of how the question was read."""


class ChatSession:
    """A conversation with `engine`, grounded in `index` while `settings.grounded` is on (and there is an index).

    `lang` ("zh" or "en") fixes the language of quotations and refusals; None takes that of each question.
    `relations` says which infobox keys a wording asks for (see `wikigpt.knowledge.reading.Relations`); None takes those
    that conversations are made with. `key` encrypts what is saved.
    """

    def __init__(
        self,
        engine: "Backend",
        index: Index | None = None,
        *,
        grounded: bool | None = None,
        system: str | None = None,
        lang: str | None = None,
        settings: ChatSettings | None = None,
        relations: Relations | None = None,
        key: Key | None = None,
    ) -> None:
        self.engine = engine
        self.index = index
        self.system = system
        self.lang = lang
        self.settings = settings or ChatSettings()
        self.relations = relations or known_relations()
        self.key = key
        self.turns: list[Turn] = []
        if grounded is not None:
            self.settings.grounded = grounded
        if self.settings.grounded and index is None:
            if grounded:
                raise UserError(
                    "grounded answers need a search index; make one with `wikigpt index`, or answer without."
                )
            self.settings.grounded = False

    def ask(self, question: str) -> Answer:
        """Answer `question` and remember both. Raises `UserError` where the question is empty or too long."""
        pieces = self.stream(question)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    def stream(self, question: str) -> Generator[str, None, Answer]:
        """Yield the answer piece by piece as it comes; the generator's return value (and `last`) is the `Answer`.

        A grounded answer comes in one piece, after it was checked. An answer that is broken off (the generator is
        closed, or Ctrl-C) is remembered as far as it came.
        """
        question = _cleaned(question)
        to_the_wiki = self.settings.grounded and self.settings.json_schema is None
        if to_the_wiki and self.index is not None and not self._is_small_talk(question):
            if self._may_be_reckoned(question) and (answer := self._reckoned(question)):
                self._remember(Turn(question, answer, question))
                yield answer.text
                return answer
            evidence = self._evidence(question, self.turns[-1] if self.turns else None)
            answer = self._conclude([evidence])[0]
            self._remember(Turn(question, answer, evidence.standalone, evidence.subject, evidence.subject_names))
            yield answer.text
            return answer
        # Talk among questions to the wiki is answered for itself: what was asked before only misleads a small model.
        return (yield from self._stream_plain(question, alone=to_the_wiki))

    def answer_all(self, questions: Sequence[str]) -> list[Answer]:
        """Answer independent questions, in batches; the history is neither used nor changed."""
        questions = [_cleaned(question) for question in questions]
        if self.settings.grounded and self.settings.json_schema is None and self.index is not None:
            return self._conclude([self._evidence(question, None) for question in questions])
        prompts = [self._opening(question) for question in questions]
        for question, prompt in zip(questions, prompts, strict=True):
            self._check_room(question, prompt)
        return [
            Answer(completion.text, self._language(question), said_by_model=completion.text)
            for question, completion in zip(questions, self._generate(prompts), strict=True)
        ]

    @property
    def last(self) -> Answer | None:
        """The last answer."""
        return self.turns[-1].answer if self.turns else None

    def take_over(self, messages: "Sequence[Message]") -> None:
        """Begin with what was said elsewhere: system texts, and each question with its answer.

        What an earlier question was about is looked up again, so that "and its population?" finds its subject.
        """
        for i, message in enumerate(messages):
            if message["role"] == "system":
                self.system = "\n".join(filter(None, (self.system, message["content"])))
            elif message["role"] == "user" and i + 1 < len(messages) and messages[i + 1]["role"] == "assistant":
                question, answer = message["content"], Answer(messages[i + 1]["content"])
                turn = Turn(question, answer, question, *self._subject_of(question))
                if self.index is not None:
                    lang = self._language(question)
                    standalone = self._standalone(question, self.turns[-1] if self.turns else None, lang)
                    hits = self.index.search(standalone, lang=self._scope(lang), k=8)
                    turn = Turn(question, answer, standalone, *self._subject_of(standalone, hits))
                self._remember(turn)

    def reset(self) -> None:
        """Forget what was said; system text and settings stay."""
        self.turns.clear()

    def save(self, path: Path) -> None:
        """Write conversation, sources and settings to a JSON file, encrypted where there is a key."""
        value = {
            "format": FORMAT,
            "system": self.system,
            "lang": self.lang,
            "settings": self.settings.model_dump(),
            "turns": [asdict(turn) for turn in self.turns],
        }
        data = json.dumps(value, ensure_ascii=False, indent=2).encode()
        write_atomic(path, self.key.encrypt(data) if self.key else data)

    def load(self, path: Path) -> None:
        """Go on with a saved conversation. Raises `UserError`, and changes nothing, where the file holds none."""
        data = path.read_bytes()
        if is_encrypted(data):
            if self.key is None:
                raise UserError(f"{path} is encrypted; start the chat with the key it was saved with: --key FILE.")
            data = self.key.decrypt(data, path)
        try:
            read = _Saved.model_validate_json(data)
        except ValidationError as error:
            raise UserError(f"{path} is not a conversation saved by wikigpt ({_first(error)}).") from None
        if read.format != FORMAT:
            raise UserError(f"{path} was saved in format {read.format}; this version reads {FORMAT}.")
        grounded = read.settings.grounded and self.index is not None
        self.system, self.lang = read.system, read.lang
        self.settings = read.settings.model_copy(update={"grounded": grounded})
        self.turns = list(read.turns)

    def _is_small_talk(self, question: str) -> bool:
        assert self.index is not None
        names = [mention.name for mention in self.index.named(question)]
        return is_small_talk(question, [*names, *map(fold, unknown_names(self.index, question))])

    def _may_be_reckoned(self, question: str) -> bool:
        """Whether a question with a number in it is about nothing that the wiki has an article on."""
        assert self.index is not None
        return bool(_DIGIT.search(question)) and not any(mention.capital for mention in self.index.named(question))

    def _reckoned(self, question: str) -> Answer | None:
        """Return the model's answer by way of a tool; None where it calls none."""
        messages = self._opening(question)
        if self._room(messages) < 1:
            return None
        uses: list[ToolUse] = []
        while True:
            said = self._generate([messages])[0]
            use = called(said.text) if len(uses) < _MOST_CALLS else None
            if use is None:
                break
            uses.append(use)
            messages = _with_use(messages, said.text, use)
            if self._room(messages) < 1:
                break
        if not uses:
            return None
        text = said.text if called(said.text) is None else uses[-1].result
        return Answer(text, self._language(question), said_by_model=said.text, tools=tuple(uses))

    def _stream_plain(self, question: str, *, alone: bool = False) -> Generator[str, None, Answer]:
        messages, dropped = (self._opening(question), 0) if alone else self._history(question)
        if alone:
            self._check_room(question, messages)
        lang = self._language(question)
        notice = _TEXTS[lang]["dropped"].format(count=dropped, room=self.engine.context_length) if dropped else ""
        pieces: list[str] = []
        uses: list[ToolUse] = []
        whole = False
        try:
            while True:
                call = ""  # what may turn out to be a call is not shown
                for piece in self.engine.stream(messages, **self._sampling(messages)):
                    call += piece
                    if not (CALL.startswith(call) or call.startswith(CALL)):
                        pieces.append(call)
                        yield call
                        call = ""
                use = called(call) if len(uses) < _MOST_CALLS else None
                if use is None:
                    break
                uses.append(use)
                messages = _with_use(messages, call, use)
            if call:
                call = uses[-1].result if uses and called(call) else call
                pieces.append(call)
                yield call
            whole = True
        finally:
            text = "".join(pieces)
            answer = Answer(text, lang, said_by_model=text, notice=notice, interrupted=not whole, tools=tuple(uses))
            if text or whole:
                self._remember(Turn(question, answer, question, *self._subject_of(question)))
        return answer

    def _history(self, question: str) -> "tuple[list[Message], int]":
        """Return the messages that fit the model's context, and how many of the earliest turns had to be left out."""
        for dropped in range(len(self.turns) + 1):
            messages = self._opening(question, self.turns[dropped:])
            if self._room(messages) >= self._reserve:
                return messages, dropped
        self._check_room(question, messages)
        return messages, len(self.turns)

    def _opening(self, question: str, turns: Sequence[Turn] = ()) -> "list[Message]":
        messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in turns:
            messages += [
                {"role": "user", "content": turn.question},
                # Passages do not come along, so a [1] would point at nothing and teach the model to write more.
                {"role": "assistant", "content": without_citations(turn.answer.text)},
            ]
        return [*messages, {"role": "user", "content": question}]

    def _room(self, messages: "Sequence[Message]") -> int:
        """Tokens that the model's context leaves for the answer."""
        return self.engine.context_length - self.engine.count_tokens(messages)

    @property
    def _reserve(self) -> int:
        """Tokens kept free for the answer."""
        return min(self.settings.max_new_tokens, max(1, self.engine.context_length // 4))

    def _check_room(self, question: str, messages: "Sequence[Message]") -> None:
        if self._room(messages) < 1:
            raise UserError(
                f"the question has {len(question)} characters; with the system text that is "
                f"{self.engine.count_tokens(messages)} tokens, more than the model's {self.engine.context_length}. "
                "Shorten it."
            )

    def _sampling(self, messages: "Sequence[Message]") -> dict[str, Any]:
        sampling = self.settings.sampling()
        sampling["max_new_tokens"] = max(1, min(self.settings.max_new_tokens, self._room(messages)))
        return sampling

    def _generate(self, prompts: "Sequence[list[Message]]") -> "list[Completion]":
        if not prompts:
            return []
        room = min(self._room(messages) for messages in prompts)
        sampling = self.settings.sampling()
        sampling["max_new_tokens"] = max(1, min(self.settings.max_new_tokens, room))
        return self.engine.generate(list(prompts), **sampling)

    def _remember(self, turn: Turn) -> None:
        self.turns.append(turn)

    def _evidence(self, question: str, earlier: Turn | None) -> Evidence:
        """Step 1: the question made to stand alone, and the passages for it."""
        assert self.index is not None
        lang = self._language(question)
        asked = corrected(self.index, question)
        notice = _TEXTS[lang]["corrected"].format(question=asked) if asked != question else ""
        standalone = self._standalone(asked, earlier, lang)
        scope = self._scope(lang)
        if pointer(standalone) is not None and not self._subject_of(standalone)[0]:
            return Evidence(question, standalone, lang, notice=notice)  # it points at something that was never named
        hits = self.index.search(standalone, lang=scope, k=max(8, self.settings.passages))
        if not hits and scope is not None:
            scope = None
            hits = self.index.search(standalone, k=max(8, self.settings.passages))
        subject, names = self._subject_of(standalone, hits)
        every = _unique([*hits, *(h for a in _named_articles(hits) for h in self.index.passages_of(a))])
        best = self._quote(standalone, every, lang)
        if best is not None:
            # The passage that holds the best sentence is read in any case, and first.
            hits = [best.hit, *(hit for hit in hits if hit != best.hit)]
        fitting, messages = self._fitting(standalone, hits[: self.settings.passages], lang)
        return Evidence(question, standalone, lang, fitting, tuple(every), subject, names, best, messages, notice)

    def _conclude(self, evidence: Sequence[Evidence]) -> list[Answer]:
        """Steps 2 to 4 for questions that are independent of each other: two batches at most."""
        asked = [item for item in evidence if item.hits]
        completions = dict(zip(map(id, asked), self._generate([list(item.messages) for item in asked]), strict=True))
        answers: dict[int, Answer] = {}
        doubtful: list[Evidence] = []
        for item in evidence:
            completion = completions.get(id(item))
            answer = self._checked(item, completion) if completion else None
            if answer:
                answers[id(item)] = answer
            else:
                doubtful.append(item)
        for item, draft in zip(doubtful, self._drafts(doubtful), strict=True):
            completion = completions.get(id(item))
            answer = self._quotation(item, draft, completion.text if completion else "")
            if answer.refused and not item.subject and self._is_talk(draft):
                answer = Answer(draft.text, item.lang, said_by_model=draft.text)
            answers[id(item)] = answer
        return [replace(answers[id(item)], notice=item.notice) for item in evidence]

    def _checked(self, evidence: Evidence, completion: "Completion") -> Answer | None:
        """Step 3: the model's answer as shown, or None if it does not stand.

        Citations of passages that do not hold the fact are dropped.
        """
        text = completion.text.strip()
        facts = _BOLD.findall(text)
        sure = _mean(completion.token_logprobs) >= self.settings.min_confidence
        if not facts or not sure or completion.finish_reason != "stop":
            return None
        good = [
            number
            for number in cited(text)
            if 1 <= number <= len(evidence.hits)
            and all(holds(_shown(evidence.hits[number - 1]), fact) for fact in facts)
        ]
        best = evidence.quote
        if not good or best is None or best.coverage < self._least_coverage(evidence):
            return None
        if not evidence.subject and not all(fact in best.sentence for fact in facts):
            return None  # "Tell me a joke" names no article whose facts it could ask for
        if best.value is not None and not all(_agree(fact, best.value) for fact in facts):
            return None
        if good != cited(text):
            text = without_citations(text)
            for number in reversed(good):
                text = with_citation(text, number, evidence.lang)
        sources = tuple(_source(number, evidence.hits[number - 1]) for number in good)
        return Answer(text, evidence.lang, sources, said_by_model=completion.text)

    def _least_coverage(self, evidence: Evidence) -> float:
        """What share of a question the wiki must speak of; more of one that names no article: it may be mere talk."""
        least = self.settings.min_coverage
        return least if evidence.subject else max(least, _UNNAMED)

    def _drafts(self, evidence: Sequence[Evidence]) -> "list[Completion | None]":
        """Return what the model says without the wiki, None where no draft is needed."""
        wanted = [item for item in evidence if not _certain(item.quote)]
        said = self._generate([self._opening(item.standalone) for item in wanted])
        drafts = {id(item): completion for item, completion in zip(wanted, said, strict=True)}
        return [drafts.get(id(item)) for item in evidence]

    def _is_talk(self, draft: "Completion | None") -> "TypeGuard[Completion]":
        """Whether the model said something for sure that is no statement of fact: those it learned to set in bold."""
        if draft is None or draft.finish_reason != "stop" or draft.text in NOT_FOUND.values():
            return False
        says_nothing = _WORD.search(draft.text) is None
        return not (says_nothing or _BOLD.search(draft.text)) and (
            _mean(draft.token_logprobs) >= self.settings.min_confidence
        )

    def _quote(self, question: str, hits: Sequence[Hit], lang: str, draft: str = "") -> Quote | None:
        assert self.index is not None
        return find_quote(self.index, question, hits, lang, draft=draft, relations=self.relations)

    def _quotation(self, evidence: Evidence, draft: "Completion | None", said: str) -> Answer:
        """Step 4: the best sentence as a marked quotation, or that the wiki does not hold it."""
        quote = evidence.quote
        if evidence.hits and draft and draft.text and _mean(draft.token_logprobs) >= _DRAFT_CONFIDENCE:
            quote = self._quote(evidence.standalone, evidence.article_hits, evidence.lang, draft.text)
        if quote is None or quote.coverage < self._least_coverage(evidence):
            return Answer(NOT_FOUND[evidence.lang], evidence.lang, said_by_model=said, refused=True)
        sentence = _highlighted(quote.sentence.removeprefix("- "), quote.value)
        text = _TEXTS[evidence.lang]["quotation"].format(title=quote.hit.title, sentence=sentence)
        return Answer(text, evidence.lang, (_source(1, quote.hit),), said_by_model=said, quoted=True)

    def _standalone(self, question: str, earlier: Turn | None, lang: str) -> str:
        """Return `question` with its subject named, if it points at that of the `earlier` turn."""
        if earlier is None or not earlier.subject:
            return question
        assert self.index is not None
        named = [mention for mention in self.index.named(question) if mention.capital]
        at = pointer(question)
        if at is not None:
            before = units(question[:at])
            if not any(find_units(before, mention.name.split()) >= 0 for mention in named):
                return with_subject(question, earlier.subject, lang)
            return question
        if named:
            new = named[0]
            if names_new_subject_only(question, self.index.names_of(new.article)):
                return with_new_subject(earlier.standalone, list(earlier.subject_names), new.title) or question
            return question
        return with_subject(question, earlier.subject, lang) if leaves_subject_out(question, lang) else question

    def _subject_of(self, question: str, hits: Sequence[Hit] = ()) -> tuple[str, tuple[str, ...]]:
        """Return title and names of the article that `question` is about, as far as it names one."""
        if self.index is None:
            return "", ()
        for hit in hits:
            if hit.title_match:
                return hit.title, tuple(self.index.names_of(hit.article))
        for mention in self.index.named(question, lang=self._scope(self._language(question))):
            if mention.capital:
                return mention.title, tuple(self.index.names_of(mention.article))
        return "", ()

    def _fitting(self, question: str, hits: Sequence[Hit], lang: str) -> "tuple[tuple[Hit, ...], tuple[Message, ...]]":
        """Return as many of the passages as the model's context has room for, with the messages that hold them."""
        for count in range(len(hits), 0, -1):
            messages = self._opening(grounded_prompt(question, hits[:count], lang))
            if self._room(messages) >= min(self._reserve, 64):
                return tuple(hits[:count]), tuple(messages)
        return (), ()

    def _language(self, question: str) -> str:
        return self.lang or language_of(question)

    def _scope(self, lang: str) -> str | None:
        """The language to search in; None for all where the wiki has no articles in that of the question."""
        assert self.index is not None
        return lang if lang in self.index.languages else None


def language_of(text: str) -> str:
    """Return "zh" if `text` has a Chinese character, else "en"."""
    return "zh" if _HAN.search(text) else "en"


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    system: str | None
    lang: str | None
    settings: ChatSettings
    turns: list[Turn]


_TEXTS = {
    "en": {
        "quotation": 'From "{title}": "{sentence}" [1]',
        "corrected": "Read as: {question}",
        "dropped": "The model can read {room} tokens; the first {count} turns of this conversation were left out.",
    },
    "zh": {
        "quotation": "《{title}》中写道：“{sentence}”[1]",
        "corrected": "按此理解：{question}",
        "dropped": "模型一次最多能读 {room} 个词元，所以这次没有读对话开头的 {count} 轮。",
    },
}


def _cleaned(question: str) -> str:
    """Return `question` without control characters (other than line breaks and tabs) and surrounding space."""
    question = re.sub(r"[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", " ", question).strip()
    if not question:
        raise UserError("the question is empty; type what you want to know.")
    return question


def _with_use(messages: "Sequence[Message]", call: str, use: ToolUse) -> "list[Message]":
    """Return the messages with a model's call and what came of it."""
    return [*messages, {"role": "assistant", "content": call}, {"role": "user", "content": response_text(use)}]


def _unique(hits: Sequence[Hit]) -> list[Hit]:
    kept: dict[tuple[int, str, str], Hit] = {}
    for hit in hits:
        kept.setdefault((hit.article, hit.section, hit.text), hit)
    return list(kept.values())


def _named_articles(hits: Sequence[Hit]) -> list[int]:
    return list(dict.fromkeys(hit.article for hit in hits if hit.title_match))[:2]


def _shown(hit: Hit) -> str:
    return f"{hit.title}\n{hit.text}"


def _source(number: int, hit: Hit) -> Source:
    return Source(number, hit.title, hit.url, hit.revision, hit.id, hit.text)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")


def _certain(quote: Quote | None) -> bool:
    """Whether the infobox itself names the value that was asked for."""
    return quote is not None and quote.value is not None and quote.coverage >= _CERTAIN


def _agree(fact: str, value: str) -> bool:
    return holds(value, fact) or holds(fact, value)


def _highlighted(sentence: str, value: str | None) -> str:
    """Set the asked value in bold where it stands in the sentence as the infobox writes it."""
    if value is None or "**" in sentence:
        return sentence
    for part in value_parts(value):
        sentence = re.sub(
            rf"(?<!\w){re.escape(part)}(?!\w)" if part.isascii() else re.escape(part), r"**\g<0>**", sentence, count=1
        )
    return sentence


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"])) or "the file"
    return f"{where}: {problem['msg']}"
