"""Exercises that a small model learns to read by, before it is asked anything.

What they ask cannot be known, only looked up in what stands before: names are made up, values exchanged. And they ask
densely, for a model learns from what it is to say, and of an ordinary open-book question that is one word in a hundred.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from wikigpt.chat.grounding import Passage, grounded_prompt, one_line, with_citation
from wikigpt.corpus.sentences import split_sentences
from wikigpt.instruct.articles import Article, Same, holding, speaks_of
from wikigpt.instruct.make import Maker, Use, passage
from wikigpt.instruct.relations import Fact, acceptable
from wikigpt.instruct.settings import Share
from wikigpt.instruct.talk import Conversation, conversation, sample
from wikigpt.instruct.wording import made_up_name, replace_value
from wikigpt.knowledge.passages import FACTS, Piece

MOST_SENTENCES = 3  # to be copied at once
ENTRIES, ASKED = (3, 12), (2, 6)  # of a list: how many it has, and how many of them are asked for
# Which entry is meant is learned from short lists and then holds for long ones (docs/experiments.md).
FEW, MOSTLY_FEW = (2, 4), 0.6
QUESTIONS = 6  # on the same passages, at most
# Passages beside each other are mostly of things of one kind, so that neither the name nor what is asked of it tells
# the answer alone; and half of them are infoboxes, where answers stand close together.
OF_A_KIND, OF_FACTS = 0.7, 0.5
FACTS_COUNT = 3  # an article with an infobox is taken as often as three without: what was read out of text is less sure
LONGEST_GAPPED = 250  # characters of a sentence with a gap


def exercises(maker: Maker, use: Use = "train") -> Iterator[Conversation]:
    """Yield all exercises of the settings' shares; those held out are of held-out articles, and few."""
    settings = maker.settings
    few = settings.validation_conversations // 3
    kinds = (
        (copies, settings.copy_text),
        (recalls, settings.recall),
        (gaps, settings.gaps),
        (quizzes, settings.quiz),
    )
    for make, share in kinds:
        held_out = Share(weight=min(1.0, share.weight), maximum=min(few, share.maximum))
        yield from make(maker, share if use == "train" else held_out, use)


def copies(maker: Maker, share: Share, use: Use) -> Iterator[Conversation]:
    """Some sentences word for word, or of several the one that begins with certain words."""
    articles = maker.train if use == "train" else maker.validation
    able = [(article, piece) for article in articles for piece in article.pieces if piece.kind != FACTS]
    by_article = Share(weight=share.weight * len(articles) / max(1, len(able)), maximum=share.maximum)
    task, space = maker.tasks["copy"], "" if maker.lang == "zh" else " "
    for (article, piece), number in sample(able, by_article, maker.rng("copy", use)):
        rng = maker.rng("copies", use, article.title, piece.text[:40], number)
        sentences = [s.strip() for s in split_sentences(one_line(piece.text, maker.lang), maker.lang)]
        if len(sentences) > 1 and rng.random() < 0.5:
            answer = rng.choice(sentences)
            begins = _beginning(answer, maker.lang, rng)
            if sum(sentence.startswith(begins) for sentence in sentences) > 1 or begins == answer:
                continue
            asked = rng.choice(task["find"]).format(text=space.join(sentences), value=begins)
        else:
            first = rng.randrange(len(sentences))
            answer = space.join(sentences[first : first + rng.randint(1, MOST_SENTENCES)])
            asked = rng.choice(task["ask"]).format(text=answer)
        yield conversation("copy", maker.lang, [asked, answer], [article])


def recalls(maker: Maker, share: Share, use: Use) -> Iterator[Conversation]:
    """A list of names with a value each, then some of the names, for their values alone."""
    articles = maker.train if use == "train" else maker.validation
    names = [article.name for article in articles if len(article.name) <= 20]
    wanted = min(share.maximum, round(share.weight * len(articles)))
    for number in range(wanted if names else 0):
        rng = maker.rng("recall", use, number)
        size = rng.randint(*(FEW if rng.random() < MOSTLY_FEW else ENTRIES))
        keys = list({_name(maker.lang, names, rng): None for _ in range(size)})
        kind = rng.choice(("number", "year", "name", "mixed"))
        values = [_value(kind, maker.lang, names, rng) for _ in keys]
        form = rng.choice(maker.tasks["recall"]["entries"])
        lines = [form.format(name=key, value=value) for key, value in zip(keys, values, strict=True)]
        turns: list[str] = []
        ask = rng.choice(maker.tasks["recall"]["ask"])
        for i in rng.sample(range(len(keys)), min(len(keys), rng.randint(*ASKED))):
            turns += [ask.format(name=keys[i]), f"**{values[i]}**"]
        turns[0] = "\n".join(lines) + "\n\n" + turns[0]
        yield conversation("recall", maker.lang, turns)


def gaps(maker: Maker, share: Share, use: Use) -> Iterator[Conversation]:
    """Sentences of a passage with a gap each, most of them with another number or name there than the wiki has."""
    articles = maker.train if use == "train" else maker.validation
    able = [(article, piece) for article in articles for piece in article.pieces if piece.kind != FACTS]
    by_article = Share(weight=share.weight * len(articles) / max(1, len(able)), maximum=share.maximum)
    names = [article.name for article in articles if len(article.name) <= 20]
    task, space = maker.tasks["gaps"], "" if maker.lang == "zh" else " "
    for (article, piece), number in sample(able, by_article, maker.rng("gaps", use)):
        rng = maker.rng("gaps", use, article.title, piece.text[:40], number)
        told, asked = [], []
        for sentence in split_sentences(one_line(piece.text, maker.lang), maker.lang):
            sentence = sentence.strip()
            found = [gap for gap in maker.gaps(sentence) if sentence.count(gap) == 1 and acceptable(gap)]
            if found and len(sentence) < LONGEST_GAPPED:
                gap = value = rng.choice(found)
                if rng.random() < maker.settings.counterfactual:
                    value = _like(gap, maker.lang, names, rng)
                sentence = sentence.replace(gap, value)
                if sentence.count(value) == 1:
                    asked.append((sentence.replace(value, "____"), value))
            told.append(sentence)
        if not asked:
            continue
        passages = [Passage(article.title, space.join(told))]
        for other, piece in rng.sample(able, min(len(able), rng.randrange(maker.settings.max_passages))):
            if other is not article:
                passages.append(passage(other, piece))
        passages, place = (shuffled := rng.sample(passages, len(passages))), shuffled.index(passages[0]) + 1
        turns: list[str] = []
        for gapped, value in rng.sample(asked, min(len(asked), QUESTIONS)):
            asks = rng.choice(task["ask"]).format(text=gapped)
            turns += [asks if turns else grounded_prompt(asks, passages, maker.lang)]
            turns += [with_citation(f"**{value}**", place, maker.lang)]
        yield conversation("gaps", maker.lang, turns, [article])


def quizzes(maker: Maker, share: Share, use: Use) -> Iterator[Conversation]:
    """Several questions in a row over the same passages, most of whose values and names are made up.

    The answers are brief: all that is to be learned of them is where they stand, not how they are worded.
    """
    articles = maker.train if use == "train" else maker.validation
    able = [article for article in articles if len(article.facts) > 1]
    same = Same(able)
    weighed = [article for article in able for _ in range(FACTS_COUNT if article.pairs else 1)]
    by_article = Share(weight=share.weight * len(able) / max(1, len(weighed)), maximum=share.maximum)
    for number, (article, _) in enumerate(sample(weighed, by_article, maker.rng("quiz", use))):
        rng = maker.rng("quizzes", use, article.title, number)
        passages: list[Passage] = []
        asked: list[tuple[Article, Fact, Piece, int]] = []
        kin = [other for other, _ in same[rng.choice(article.facts).relation]] if rng.random() < OF_A_KIND else able
        others = rng.sample(kin, min(len(kin), rng.randrange(maker.settings.max_passages)))
        for subject in rng.sample(unique := list({a.title: a for a in (article, *others)}.values()), len(unique)):
            about, piece, facts = _retold(maker, subject, rng)
            asked += [(about, fact, piece, len(passages) + 1) for fact in facts]
            passages.append(passage(about, piece))
        rng.shuffle(asked)
        turns: list[str] = []
        for about, fact, piece, place in asked[:QUESTIONS]:
            question = maker.catalogue.question(fact.relation, maker.lang, use, rng)
            asks = maker.speaker.ask(question, about, rng if use == "train" else None)
            if not turns:
                briefly = rng.choice(maker.tasks["quiz"]["briefly"]).format(text=asks)
                asks = grounded_prompt(briefly, passages, maker.lang)
            turns += [asks, maker.brief_answer(about, fact, piece, place)]
        if turns:
            yield conversation("quiz", maker.lang, turns, unique)


def _retold(maker: Maker, article: Article, rng: Random) -> tuple[Article, Piece, list[Fact]]:
    """A passage of the article with other values and perhaps another name, and the facts that it now tells."""
    of_facts = [piece for piece in article.pieces if piece.kind == FACTS]
    piece = rng.choice(of_facts if of_facts and rng.random() < OF_FACTS else article.pieces)
    facts: list[Fact] = []
    for fact in article.facts:
        held = [(p, wording) for p, wording in holding(fact, [piece]) if speaks_of(fact, p)]
        if not held:
            continue
        wording, told = held[0][1], fact
        if rng.random() < maker.settings.counterfactual and (swap := maker.other_value(article, fact, wording, rng)):
            told, piece = replace(fact, value=swap), replace(piece, text=replace_value(piece.text, wording, swap))
        facts.append(told)
    facts = [fact for fact in facts if holding(fact, [piece])]  # a later exchange may have hit an earlier value
    if facts and rng.random() < maker.settings.invented:
        article, (piece,) = maker.renamed(article, [piece], facts[0].value, rng)
        facts = [fact for fact in facts if holding(fact, [piece])]
    return article, piece, facts


def _beginning(sentence: str, lang: str, rng: Random) -> str:
    if lang == "zh":
        return sentence[: rng.randint(2, 5)]
    return " ".join(sentence.split(" ")[: rng.randint(1, 3)])


def _like(value: str, lang: str, names: list[str], rng: Random) -> str:
    """A number of as many digits, or a name."""
    if not value[0].isdigit():
        return _name(lang, names, rng)
    return "".join(rng.choice("123456789") if c.isdigit() else c for c in value)


def _name(lang: str, names: list[str], rng: Random) -> str:
    return rng.choice(names) if rng.random() < 0.4 else made_up_name(lang, rng)


def _value(kind: str, lang: str, names: list[str], rng: Random) -> str:
    if kind == "mixed":
        kind = rng.choice(("number", "year", "name"))
    if kind == "number":
        return str(rng.randrange(10 ** rng.randint(1, 6)))
    if kind == "year":
        return f"{rng.randint(1000, 2030)}{'年' if lang == 'zh' else ''}"
    return _name(lang, names, rng)
