"""Slips of the pen in names: "Albert Einstien", 爱因斯但.

A word that the wiki does not have at all is read as the word of a title nearest to it, as far as two letters differ; in
scripts without spaces, a title that stands in the question but for one character. Everything that the wiki knows stays
as it is.
"""

import re

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from wikigpt.knowledge.index import MAX_QUESTION, Index
from wikigpt.knowledge.text import STOP_WORDS, UNSPACED, fold, meaningful, units

_LEAST_LETTERS, _MANY_LETTERS = 4, 8  # one slip in 4 letters and more, two in 8 and more; shorter words are all near
_LEAST_CHARACTERS = 4  # of a title in an unspaced script, of which one may be wrong: 王小明 is not 王小波
_CANDIDATES = 50

_WORD = re.compile(rf"[^\W\d_{UNSPACED}]+")
_RUN = re.compile(rf"[{UNSPACED}]+")


def corrected(index: Index, question: str) -> str:
    """Return `question` with the slips in it put right as far as titles of the wiki show how."""
    if len(question) > MAX_QUESTION:
        return question
    question = _WORD.sub(lambda word: _nearest_word(index, word[0]), question)
    if any(len(mention.name.split()) >= _LEAST_CHARACTERS for mention in index.named(question)):
        return question
    return _RUN.sub(lambda run: _with_nearest_title(index, run[0]), question)


def _nearest_word(index: Index, word: str) -> str:
    """Return the word of a title that `word` is meant to be; itself where it is known, or nothing is near."""
    folded = fold(word)
    if len(folded) < _LEAST_LETTERS or folded in STOP_WORDS or index.frequency(folded):
        return word
    if index.title_words(folded, whole=True):
        return word
    slips = 2 if len(folded) >= _MANY_LETTERS else 1
    # The first letter is hardly ever wrong (Pollock and Zamora 1984: in 3 % of slips); so few words need comparing.
    near = extract(folded, index.title_words(folded[0]), scorer=OSA.distance, score_cutoff=slips)
    if not near:
        return word
    nearest = min(distance for _, distance, _ in near)
    best = max((found for found, distance, _ in near if distance == nearest), key=index.frequency)
    return best.capitalize() if word[0].isupper() else best


def _with_nearest_title(index: Index, run: str) -> str:
    """Return a run of unspaced script with the title put in that stands there but for one character."""
    for piece in sorted(meaningful(fold(run)), key=len, reverse=True):
        if len(piece) < _LEAST_CHARACTERS or piece not in run:
            continue
        for characters in sorted(map(units, index.titles_like(piece, _CANDIDATES)), key=len, reverse=True):
            if len(characters) < _LEAST_CHARACTERS or any(character.isascii() for character in characters):
                continue
            for start in range(len(piece) - len(characters) + 1):
                window = piece[start : start + len(characters)]
                if sum(a != b for a, b in zip(window, characters, strict=True)) == 1:
                    return run.replace(window, "".join(characters), 1)
    return run
