"""Conversations of every kind from the articles of one language.

Each kind is a method of `Maker` that yields conversations; it draws from a random generator of its own, so that
changing one kind leaves the others as they were.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal

from wikigpt.chat.grounding import NOT_FOUND, Passage, attribute_of, grounded_prompt, with_citation
from wikigpt.corpus.sentences import split_sentences
from wikigpt.instruct.articles import Absent, Article, Same, View, absent_attributes, holding, label, speaks_of
from wikigpt.instruct.reckoning import reckonings
from wikigpt.instruct.relations import Catalogue, Fact, Relation, acceptable, read_toml
from wikigpt.instruct.settings import InstructSettings, Share
from wikigpt.instruct.talk import Conversation, Speaker, conversation, pick, sample
from wikigpt.instruct.wording import careless, find_value, made_up_name, replace_value
from wikigpt.knowledge.passages import FACTS, LEAD, Piece

Use = Literal["train", "heldout"]

_SHORTEST_DESCRIPTION = {"en": 30, "zh": 10}
_PREDICATE = {
    "en": re.compile(r"\b(?:is|was|are|were) ((?:an?|the|one of) .+?)[.;]?$"),
    "zh": re.compile(r"是([^是].+?)[。；]?$"),
}
# What tells two descriptions apart: words without those that any description may hold (Chinese: characters).
_TELLING = {
    "en": re.compile(
        r"\b(?!(?:the|and|one|that|which|with|for|its|major|known|well|city|located|situated|lies|forms|part|continent"
        r"|belongs|member|family|language|nationality|famous|remembered|names?|called|among|great|day)\b)\w{3,}"
    ),
    "zh": re.compile(r"[^位于在的是一个座种属地处坐落和与为洲之知名著史有人们城市\W]"),
}
_VAGUE = re.compile(r"^one of |之一$|^an? (?:major )?city (?:in|of) [^,]*$|^[^，]*一座城市$|^[^《]*》|^[^“]*”")
_GAPS = {
    "en": re.compile(r"(?<=[a-z,] )(?:[A-Z][\w’-]+(?: [A-Z][\w’-]+)*|\d[\d,.]*\d|\d)(?![\w-])"),
    "zh": re.compile(
        r"(?<=《)[^《》]{2,20}(?=》)|(?<![A-Za-z\d.+-])\d[\d,.]*\d(?![\d.A-Za-z-])"
        r"|(?<=[位生卒建立成流注][于於])[\u4e00-\u9fff]{2,6}(?=[，。])"
    ),
}
_DULL_CATEGORY = re.compile(
    r"\d|articles|pages|wikipedia|wikidata|stub|template|dates|cs1|webarchive|小作品|条目|條目|维基|維基|页面|頁面|使用|含有|本地|缺少"
)
_HARD_TO_READ = re.compile(r"[{}|<>=\[\]]|\(\)|（）")


class Maker:
    """Makes the conversations of one language.

    `use` says which phrasings are spoken: "train", or "heldout" for conversations that measure and do not teach.
    """

    def __init__(self, view: View, settings: InstructSettings, catalogue: Catalogue, seed: int | str) -> None:
        self.view = view
        self.lang = view.lang
        self.settings = settings
        self.catalogue = catalogue
        self.seed = seed
        self.speaker = Speaker(view, catalogue.frames[view.lang], noise=settings.noise, chatter=settings.chatter)
        self.tasks = {name: table[view.lang] for name, table in read_toml("tasks.toml").items() if name != "absent"}
        self.absent: list[Absent] = absent_attributes()
        self.train = view.of("train")
        self.validation = view.of("validation")
        self.same = Same(self.train)
        self.everywhere = Same(view.articles)
        self.core, self.other = self._parted_facts()

    def rng(self, *what: object) -> Random:
        """A generator that depends on the seed, the language and `what` alone."""
        return Random("/".join(map(str, (self.seed, self.lang, *what))))

    def _parted_facts(self) -> tuple[list[tuple[Article, Fact]], list[tuple[Article, Fact]]]:
        """Core facts to be taught by heart, as many as `max_core` has room for, and all others."""
        core = [(article, fact) for article in self.train for fact in article.facts if fact.core]
        room = self.settings.max_core // self.settings.phrasings_per_fact
        if len(core) > room:
            chosen = sorted(self.rng("core").sample(range(len(core)), room))
            core = [core[i] for i in chosen]
        taught = {(article.title, article.id, fact.relation.id) for article, fact in core}
        other = [
            (article, fact)
            for article in self.train
            for fact in article.facts
            if (article.title, article.id, fact.relation.id) not in taught
        ]
        return core, other

    def training(self) -> Iterator[Conversation]:
        """Yield all training conversations; none has to do with an article held out."""
        s = self.settings
        yield from self.core_facts()
        yield from self.other_facts(s.other_fact)
        yield from self.follow_ups(s.follow_up)
        yield from self.identifications(s.identification)
        yield from self.definitions(s.definition)
        yield from self.section_questions(s.section)
        yield from self.summaries(s.summary)
        yield from self.translations(s.translation)
        yield from self.categories(s.category)
        yield from self.small_talk(s.small_talk)
        yield from self.unknown_things(s.unknown)
        wanted = min(s.reckoning.maximum, round(s.reckoning.weight * len(self.train)))
        yield from reckonings(self.lang, wanted, self.rng("reckoning"), noise=s.noise)
        yield from self.open_book(s.grounded, self.train)
        yield from self.unanswerable(s.unanswerable, self.train)
        yield from self.cloze(s.cloze, self.train)

    def measuring(self) -> Iterator[Conversation]:
        """Yield conversations for the held-out loss: facts in held-out phrasings, open-book on held-out articles."""
        s, most = self.settings, self.settings.validation_conversations
        rng, facts = self.rng("measuring"), s.max_core + s.other_fact.maximum
        for (article, fact), _ in sample(
            [*self.core, *self.other], Share(weight=1, maximum=min(most // 2, facts)), rng
        ):
            yield self._fact(article, fact, rng, "heldout", noisy=False)
        yield from self.open_book(
            Share(weight=1, maximum=min(most // 3, s.grounded.maximum)), self.validation, "heldout"
        )
        yield from self.unanswerable(
            Share(weight=1, maximum=min(most // 6, s.unanswerable.maximum)), self.validation, "heldout"
        )

    def core_facts(self) -> Iterator[Conversation]:
        """Each core fact in `phrasings_per_fact` different questions, the answers in turn in all their forms."""
        for article, fact in self.core:
            rng = self.rng("fact", article.title, fact.relation.id)
            number = self.settings.phrasings_per_fact
            questions = pick(self.catalogue.questions(fact.relation, self.lang, "train"), number, rng)
            answers = pick(self.answers(fact), number, rng)
            for question, answer in zip(questions, answers, strict=True):
                turns = [self.speaker.ask(question, article, rng), self.speaker.tell(answer, article, fact)]
                yield conversation("fact", self.lang, turns, [article])

    def other_facts(self, share: Share) -> Iterator[Conversation]:
        """The facts that are not core, in fewer phrasings."""
        for (article, fact), number in sample(self.other, share, self.rng("other facts")):
            rng = self.rng("other fact", article.title, fact.relation.id, number)
            yield self._fact(article, fact, rng, "train", number=number)

    def _fact(
        self, article: Article, fact: Fact, rng: Random, use: Use, *, number: int = 0, noisy: bool = True
    ) -> Conversation:
        # One order of phrasings for each fact, so that its second conversation is not worded as the first.
        order = self.rng("order", article.title, fact.relation.id)
        question = pick(self.catalogue.questions(fact.relation, self.lang, use), number + 1, order)[number]
        answer = rng.choice(self.answers(fact))
        turns = [
            self.speaker.ask(question, article, rng if noisy else None),
            self.speaker.tell(answer, article, fact),
        ]
        return conversation("fact", self.lang, turns, [article])

    def answers(self, fact: Fact) -> tuple[str, ...]:
        """Templates of sentences that answer with the fact."""
        return fact.relation.phrases(self.lang).answers[: self.settings.answer_forms]

    def follow_ups(self, share: Share) -> Iterator[Conversation]:
        """Two turns; the second leaves its subject out, or asks the same of another subject."""
        frames: dict[str, Any] = self.catalogue.frames[self.lang]
        askable = {
            id(article): [f for f in article.facts if f.relation.phrases(self.lang).frames and f.relation.keys]
            for article in self.train
        }
        able = [article for article in self.train if askable[id(article)]]
        for article, number in sample(able, share, self.rng("follow-ups")):
            rng = self.rng("follow-up", article.title, number)
            facts = askable[id(article)]
            first = rng.choice([fact for fact in facts if fact.core] or facts)
            opening = self._fact(article, first, rng, "train", number=rng.randrange(6))["messages"]
            turns = [message["content"] for message in opening]
            others = [(a, f) for a, f in self.same[first.relation] if a is not article]
            more = [fact for fact in facts if fact is not first]
            if more and (not others or rng.random() < 0.7):
                second, subject = rng.choice(more), article
                template = rng.choice(frames["follow_person" if article.is_person else "follow"])
                words = second.relation.phrases(self.lang)
                asked = self.speaker.ask(template, article, rng, noun=words.noun, what=words.what)
            elif others:
                subject, second = rng.choice(others)
                asked = self.speaker.ask(rng.choice(frames["switch"]), subject, rng)
            else:
                continue
            answer = rng.choice(self.answers(second))
            turns += [asked, self.speaker.tell(answer, subject, second)]
            yield conversation("follow_up", self.lang, turns, [article, subject])

    def identifications(self, share: Share) -> Iterator[Conversation]:
        """From a fact or a description to the title, where there is only one that fits."""
        by_value = [
            (article, fact)
            for article, fact in [*self.core, *self.other]
            if fact.relation.phrases(self.lang).inverse
            and self.everywhere.titles_of[fact.relation.id, fact.value] == 1
            and article.name.casefold() not in fact.value.casefold()  # "which country uses the Kenyan shilling?"
            and fact.value.casefold() not in article.title.casefold()
        ]
        described = self._descriptions()
        opportunities: list[tuple[Article, Fact | None]] = [
            *by_value,
            *((article, None) for article in described.values()),
        ]
        descriptions = {article.title: text for text, article in described.items()}
        for (article, fact), number in sample(opportunities, share, self.rng("identification")):
            rng = self.rng("identify", article.title, fact.relation.id if fact else "", number)
            if fact:
                question = rng.choice(fact.relation.phrases(self.lang).inverse)
                asked = self.speaker.ask(question, article, rng, value=fact.value)
                answer = rng.choice(self.catalogue.frames[self.lang]["inverse_answers"])
            else:
                task = self.tasks["identification"]
                templates = task["ask_person" if article.is_person else "ask"]
                asked = self.speaker.ask(rng.choice(templates), article, rng, text=descriptions[article.title])
                answer = rng.choice(task["answers"])
            the = "the " if article.shown.startswith("the ") else ""
            told = self.speaker.say(answer, article, the=the, plain=article.shown.removeprefix("the "))
            yield conversation("identification", self.lang, [asked, told], [article])

    def _descriptions(self) -> dict[str, Article]:
        """First sentences without their subject that fit one article only."""
        telling = _TELLING[self.lang]
        words = [set(telling.findall(article.first)) for article in self.view.articles]
        places: dict[str, list[int]] = defaultdict(list)
        for number, held in enumerate(words):
            for word in held:
                places[word].append(number)
        found = {}
        for article in self.train:
            match = _PREDICATE[self.lang].search(article.first)
            text = match[1] if match else ""
            told = set(telling.findall(text))
            if len(text) < _SHORTEST_DESCRIPTION[self.lang] or not told or _VAGUE.search(text):
                continue
            if article.name.casefold() in text.casefold():
                continue
            # A first sentence that says all this in other words, "lies in France, a city", fits as well.
            rarest = min((places[word] for word in sorted(told)), key=len)
            if sum(told <= words[number] for number in rarest) == 1:
                found[text] = article
        return found

    def definitions(self, share: Share) -> Iterator[Conversation]:
        """What is X? The first sentence of its article."""
        task = self.tasks["definition"]
        able = [article for article in self.train if article.first]
        for article, number in sample(able, share, self.rng("definitions")):
            rng = self.rng("definition", article.title)
            templates = task["ask_person" if article.is_person else "ask"]
            question = pick(templates, number + 1, rng)[number]
            if article.is_several:
                question = _in_plural(question)
            turns = [self.speaker.ask(question, article, rng), article.first]
            yield conversation("definition", self.lang, turns, [article])

    def section_questions(self, share: Share) -> Iterator[Conversation]:
        """What the section under a heading opens with."""
        able = [(article, heading, text) for article in self.train for heading, text in article.sections]
        for (article, heading, text), number in sample(able, share, self.rng("sections")):
            rng = self.rng("section", article.title, heading, number)
            if not _HARD_TO_READ.search(heading + text):
                question = self.speaker.ask(rng.choice(self.tasks["section"]["ask"]), article, rng, heading=heading)
                yield conversation("section", self.lang, [question, text], [article])

    def summaries(self, share: Share) -> Iterator[Conversation]:
        """The body of an article, to be put into one sentence: that of its lead."""
        least = {"en": 120, "zh": 40}[self.lang]
        able = [(article, text) for article in self.train if article.first and len(text := _body(article)) >= least]
        for (article, text), number in sample(able, share, self.rng("summaries")):
            rng = self.rng("summary", article.title, number)
            if not _HARD_TO_READ.search(text):
                question = rng.choice(self.tasks["summary"]["ask"]).format(text=text)
                yield conversation("summary", self.lang, [question, article.first], [article])

    def translations(self, share: Share) -> Iterator[Conversation]:
        """Titles in other languages, and titles of other languages here."""
        task = self.tasks["translation"]
        able = [
            (article, code, title)
            for article in self.train
            for code, title in article.langlinks
            if code in task["languages"] and code != self.lang and acceptable(title) and acceptable(article.title)
        ]
        # The languages that conversations are made in come first, and are not drowned by twenty others.
        own = [link for link in able if link[1] in self.settings.languages]
        for (article, code, title), number in sample(own or able, share, self.rng("translations")):
            rng = self.rng("translation", article.title, code, number)
            fields = {"language": task["languages"][code]}
            asked = self.speaker.ask(rng.choice(task["ask"]), article, rng, **fields)
            value = re.sub(r"\s*[(（].*[)）]$", "", title)
            told = self.speaker.say(rng.choice(task["answers"]), article, value=value, **fields)
            yield conversation("translation", self.lang, [asked, told], [article])

    def categories(self, share: Share) -> Iterator[Conversation]:
        """Which of some categories fits."""
        counts = Counter(c for article in self.train for c in article.categories)
        usual = [
            c for c, n in sorted(counts.items()) if n >= 5 and len(c) <= 40 and not _DULL_CATEGORY.search(c.lower())
        ]
        known = set(usual)
        able = [(a, fit) for a in self.train if (fit := [c for c in a.categories if c in known])]
        if len(usual) < 4:
            return
        comma, last = ("、", "还是") if self.lang == "zh" else (", ", " or ")
        task = self.tasks["category"]
        for (article, fitting), number in sample(able, share, self.rng("categories")):
            rng = self.rng("category", article.title, number)
            right = rng.choice(fitting)
            wrong = [c for c in rng.sample(usual, 4) if c not in article.categories][: rng.randint(1, 2)]
            options = pick([right, *wrong], len(wrong) + 1, rng)
            if not wrong or any(a != b and a in b for a in options for b in options):
                continue
            listed = comma.join(options[:-1]) + last + options[-1]
            asked = self.speaker.ask(rng.choice(task["ask"]), article, rng, options=listed)
            told = self.speaker.say(rng.choice(task["answers"]), article, value=right)
            yield conversation("category", self.lang, [asked, told], [article])

    def small_talk(self, share: Share) -> Iterator[Conversation]:
        """Greetings, questions about itself, nonsense; some with a question about the wiki between."""
        talks = {talk["name"]: talk[self.lang] for talk in read_toml("smalltalk.toml")["talk"]}
        spoken = [(name, user) for name, talk in talks.items() for user in talk["users"]]
        for (name, user), number in sample(spoken, share, self.rng("small talk")):
            rng = self.rng("talk", user, number)
            said = careless(user, self.lang, rng) if number > 1 and len(user) > 4 else user
            turns = [said, rng.choice(talks[name]["replies"])]
            if name in ("greeting", "thanks") and self.core and number % 2:
                article, fact = rng.choice(self.core)
                asked = [m["content"] for m in self._fact(article, fact, rng, "train")["messages"]]
                turns = turns + asked if name == "greeting" else asked + turns
                yield conversation("small_talk", self.lang, turns, [article])
            else:
                yield conversation("small_talk", self.lang, turns)

    def unknown_things(self, share: Share) -> Iterator[Conversation]:
        """Made-up things, asked for without passages: not found."""
        relations = self.asked_relations()
        wanted = min(share.maximum, round(share.weight * len(self.train)))
        for number in range(wanted if relations else 0):
            rng = self.rng("unknown", number)
            question = self.made_up_question(rng.choice(relations), rng, "train")
            if number % 3 == 0:
                nobody = _named(made_up_name(self.lang, rng), self.train[0])
                question = self.speaker.ask(rng.choice(self.tasks["definition"]["ask"]), nobody, rng)
            yield conversation("unknown", self.lang, [question, NOT_FOUND[self.lang]])

    def made_up_question(self, relation: Relation, rng: Random, use: Use) -> str:
        """Return a question about something that no article is about."""
        name = made_up_name(self.lang, rng)
        while name in self.view.titles:
            name = made_up_name(self.lang, rng)
        nobody = _named(name, self.train[0])
        noisy = rng if use == "train" else None
        return self.speaker.ask(self.catalogue.question(relation, self.lang, use, rng), nobody, noisy)

    def asked_relations(self) -> list[Relation]:
        """The relations that articles of this language have, in a fixed order."""
        relations = {(f.relation.id, f.relation.variant): f.relation for _, f in [*self.core, *self.other]}
        return [relations[key] for key in sorted(relations)]

    def open_book(
        self, share: Share, articles: Sequence[Article], use: Use = "train", *, counterfactual: float | None = None
    ) -> Iterator[Conversation]:
        """Facts asked over passages. In many the value is not the true one, so that only reading helps.

        `counterfactual` says in which part of them; without it, as the settings say, and none of those that measure.
        """
        if counterfactual is None:
            counterfactual = self.settings.counterfactual if use == "train" else 0.0
        facts = [(article, fact) for article in articles for fact in article.facts]
        same = Same(articles)
        for (article, fact), number in sample(facts, share, self.rng("open book", use)):
            rng = self.rng("read", use, article.title, fact.relation.id, number)
            held = [(piece, text) for piece, text in holding(fact, article.pieces) if speaks_of(fact, piece)]
            if not held:
                continue
            told_in_text = [(piece, text) for piece, text in held if piece.kind != FACTS]
            if use == "train" and told_in_text and rng.random() < self.settings.running_text:
                held = told_in_text
            piece, wording = rng.choice(held)
            others = self._neighbours(article, fact.relation, piece, same, rng)
            pieces = [piece, *self._own(article, [piece], rng)]
            told = fact
            swapped = counterfactual > 0 and rng.random() < counterfactual
            if swapped and (swap := self.other_value(article, fact, wording, rng)):
                told = replace(fact, value=swap)
                pieces = [replace(p, text=replace_value(p.text, wording, swap)) for p in pieces]
            about = article
            if use == "train" and rng.random() < self.settings.invented:
                about, pieces = self.renamed(article, pieces, told.value, rng)
            passages = [passage(about, p) for p in pieces]
            prompt, (place,) = self._numbered(passages[:1], [*passages[1:], *others], rng)
            question = self.catalogue.question(fact.relation, self.lang, use, rng)
            asked = self.speaker.ask(question, about, rng if use == "train" else None)
            answer = with_citation(self.speaker.tell(rng.choice(self.answers(fact)), about, told), place, self.lang)
            if self.settings.brief > 0 and rng.random() < self.settings.brief:
                answer = self.brief_answer(about, told, pieces[0], place)
            turns = [grounded_prompt(asked, prompt, self.lang), answer]
            yield conversation("grounded", self.lang, turns, [article])

    def brief_answer(self, article: Article, fact: Fact, piece: Piece, place: int) -> str:
        """Return `Tuvedon's mouth: **the Bristol Channel** [2]`, in the words of the passage.

        Before it has to give the value, a small model has thus said whose and which it is, and need only find these
        words (docs/experiments.md).
        """
        what = attribute_of(article.name, label(fact, piece, self.lang), self.lang)
        colon = "：" if self.lang == "zh" else ": "
        return with_citation(f"{what}{colon}**{fact.value}**{fact.unit}", place, self.lang)

    def unanswerable(self, share: Share, articles: Sequence[Article], use: Use = "train") -> Iterator[Conversation]:
        """Passages that look right and do not hold the answer: not found."""
        facts = [(article, fact) for article in articles for fact in article.facts if fact.key or not article.pairs]
        same = Same(articles)
        for (article, fact), number in sample(facts, share, self.rng("unanswerable", use)):
            rng = self.rng("unanswered", use, article.title, fact.relation.id, number)
            attributes = [self.absent[n] for n in article.lacks if self.absent[n].heldout == (use == "heldout")]
            if attributes and rng.random() < 0.5:
                asked = self.absent_question(article, rng.choice(attributes), rng, use)
                own = rng.sample(article.pieces, min(2, len(article.pieces)))
                passages = [passage(article, piece) for piece in own]
            else:
                question = self.catalogue.question(fact.relation, self.lang, use, rng)
                asked = self.speaker.ask(question, article, rng if use == "train" else None)
                holders = [piece for piece, _ in holding(fact, article.pieces)]
                own = self._own(article, holders, rng)
                passages = [passage(article, p) for p in own if _silent(fact, p)]
            piece = next((p for p in article.pieces if p.kind == FACTS), None) or Piece(LEAD, "", "")
            neighbours = self._neighbours(article, fact.relation, piece, same, rng)
            passages = [*passages, *neighbours][: self.settings.max_passages]
            if passages:
                rng.shuffle(passages)
                turns = [grounded_prompt(asked, passages, self.lang), NOT_FOUND[self.lang]]
                yield conversation("unanswerable", self.lang, turns, [article])

    def absent_question(self, article: Article, attribute: Absent, rng: Random, use: Use) -> str:
        """Return a question for something that the article does not say."""
        template = self.catalogue.question(attribute.relation, self.lang, use, rng)
        return self.speaker.ask(template, article, rng if use == "train" else None)

    def cloze(self, share: Share, articles: Sequence[Article]) -> Iterator[Conversation]:
        """A sentence of a passage with a gap: for wikis without infoboxes the plainest way to learn to read."""
        able = [(article, piece) for article in articles for piece in article.pieces if piece.kind != FACTS]
        by_article = Share(weight=share.weight * len(articles) / max(1, len(able)), maximum=share.maximum)
        for (article, piece), number in sample(able, by_article, self.rng("cloze")):
            rng = self.rng("gap", article.title, piece.text[:40], number)
            gaps = [
                (sentence, gap)
                for sentence in split_sentences(piece.text, self.lang)
                if len(sentence) < 250 and not _HARD_TO_READ.search(sentence)
                for gap in self.gaps(sentence)
                if sentence.count(gap) == 1 and gap not in article.name and acceptable(gap)
            ]
            if not gaps:
                continue
            sentence, gap = rng.choice(gaps)
            gapped = sentence.replace(gap, "____")
            task = self.tasks["cloze"]
            others = [
                passage(a, p)
                for a, p in rng.sample(able, min(2, len(able)))
                if a is not article and sentence not in p.text  # a bot's articles share whole sentences
            ]
            passages, (place,) = self._numbered([passage(article, piece)], others, rng)
            asked = self.speaker.ask(rng.choice(task["ask"]), article, text=gapped)
            told = self.speaker.say(rng.choice(task["answers"]), article, value=gap)
            turns = [grounded_prompt(asked, passages, self.lang), with_citation(told, place, self.lang)]
            yield conversation("cloze", self.lang, turns, [article])

    def gaps(self, sentence: str) -> Iterator[str]:
        """Yield what may be left out of a sentence: names, numbers, titles of works and of other articles."""
        for match in _GAPS[self.lang].finditer(sentence):
            yield match[0]
        start = 0 if self.lang == "zh" else len(sentence)  # Chinese names have no capitals to know them by
        while start < len(sentence):
            longest = next((n for n in range(8, 1, -1) if sentence[start : start + n] in self.view.titles), 0)
            if longest:
                yield sentence[start : start + longest]
            start += longest or 1

    def _neighbours(self, article: Article, relation: Relation, piece: Piece, same: Same, rng: Random) -> list[Passage]:
        """Return passages on things of the same kind, that say the same sort of thing about them."""
        holders = same[relation]
        passages = []
        for other, fact in rng.sample(holders, min(len(holders), self.settings.max_passages)):
            likely = [p for p, _ in holding(fact, other.pieces) if p.kind == piece.kind]
            if likely and other.title != article.title and not any(article.name in p.text for p in likely):
                passages.append(passage(other, rng.choice(likely)))
        return passages

    @staticmethod
    def _own(article: Article, without: list[Piece], rng: Random) -> list[Piece]:
        """Return one other passage of the article, or none: a search finds several of the same article."""
        rest = [piece for piece in article.pieces if piece not in without]
        return [rng.choice(rest)] if rest and rng.random() < 0.5 else []

    def _numbered(self, first: list[Passage], others: list[Passage], rng: Random) -> tuple[list[Passage], list[int]]:
        """Mix passages; return them with the numbers of the `first` ones."""
        size = rng.randint(1, self.settings.max_passages)
        passages = [*first, *others][: max(size, len(first))]
        order = pick(range(len(passages)), len(passages), rng)
        return [passages[i] for i in order], [order.index(i) + 1 for i in range(len(first))]

    def other_value(self, article: Article, fact: Fact, wording: str, rng: Random) -> str | None:
        """Return a value that the fact does not have but could have."""
        if find_value(wording, article.title) or len(wording) < 2:
            return None  # single letters and signs stand in too many places to be replaced safely
        holders = self.same[fact.relation]
        for _, other in rng.sample(holders, min(len(holders), 5)):
            known = wording in other.value or any(other.value in piece.text for piece in article.pieces)
            if other.value != fact.value and other.unit == fact.unit and not known:
                return other.value
        return None

    def renamed(self, article: Article, pieces: list[Piece], value: str, rng: Random) -> tuple[Article, list[Piece]]:
        """Return article and passages with a made-up name in place of the title, as far as that can be done cleanly."""
        name = made_up_name(self.lang, rng)
        texts = [piece.text for piece in pieces]
        for old in dict.fromkeys((article.name, article.shown.removeprefix("the "))):  # a set has no fixed order
            texts = [replace_value(text, old, name) for text in texts]
        stem = article.name.casefold()
        if (
            any(stem in text.casefold() for text in texts)
            or stem in value.casefold()
            or not find_value(value, texts[0])
        ):
            return article, pieces
        return _named(name, article), [replace(p, text=text) for p, text in zip(pieces, texts, strict=True)]


def passage(article: Article, piece: Piece) -> Passage:
    """Return a piece of an article as it is put before the model."""
    return Passage(article.title, piece.text, facts=piece.kind == FACTS)


def _body(article: Article) -> str:
    """Return the text that a summary is made of: what the sections say; the lead, where they do not name the subject.

    Of sections that speak of something else the first sentence would be a guess, not a summary.
    """
    text = " ".join(text for _, text in article.sections[:3])
    if article.pairs or article.name in text:
        return text
    lead = [piece.text for piece in article.pieces[:2] if piece.kind == LEAD]
    text = ("" if article.lang == "zh" else " ").join(lead).replace("\n", " ")
    return text if len(text) > 2 * len(article.first) else ""


def _in_plural(question: str) -> str:
    """Return an English question for something that there are several of: "What are Arabs?"."""
    for one, several in (
        ("is {title}", "are {title}"),
        ("{title} is", "{title} are"),
        ("What is it", "What are they"),
        ("what is it", "what are they"),
    ):
        question = question.replace(one, several)
    return question


def _silent(fact: Fact, piece: Piece) -> bool:
    """Whether a passage without the fact's value does not say it in other words: text rounds numbers as it likes."""
    if piece.kind == FACTS:
        return not speaks_of(fact, piece)
    return fact.relation.type not in ("number", "year")


def _named(name: str, article: Article) -> Article:
    """Return a copy of `article` that goes by another name."""
    return replace(article, title=name, name=name, shown=name)
