"""In which language people talk: told from the scripts of a conversation, with a word list for English."""

import re

from wikigpt.corpus.languages import LANGUAGE_CODES, words

_READ = 4_000  # characters; more tell no more
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3041-\u30fa\u31f0-\u31ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3\u1100-\u11ff]")
_LATIN = re.compile(r"[A-Za-z]+")
_LETTER = re.compile(r"[^\W\d_]")
# Words that English cannot do without and that French, Spanish, German, Dutch and Indonesian do not use.
_ENGLISH = words("the of and to is you it that for are this with what how your from have can my be not they which when")
_ENOUGH_WORDS = 12  # fewer tell nothing: "Tell me about Paris"


def named_language(name: object) -> str | None:
    """The Wikipedia code that a row's own word for its language means ("zh-CN" → "zh"); None if it means none."""
    if not isinstance(name, str):
        return None
    code = name.strip().lower().replace("_", "-")
    return next((form for form in (code, code.partition("-")[0]) if form in LANGUAGE_CODES), None)


def detect_language(text: str) -> str:
    """Return "zh", "ja", "ko", "en", or "other".

    A Chinese character says as much as a word of three letters, so a fifth of them among all letters makes a text
    Chinese: one that asks in Chinese about a program is mostly ASCII.
    """
    text = text[:_READ]
    latin = _LATIN.findall(text.lower())
    if text.isascii():  # most English; twice as fast so
        return "en" if latin and _is_english(latin) else "other"
    letters = len(_LETTER.findall(text))
    if not letters:
        return "other"
    han, kana, hangul = (len(script.findall(text)) for script in (_HAN, _KANA, _HANGUL))
    asian = "ko" if hangul > han + kana else "ja" if 10 * kana > han + kana else "zh"
    if 5 * (han + kana + hangul) >= letters:
        return asian
    if 50 * (han + kana + hangul) >= letters and not _is_english(latin):  # a question about a long program
        return asian
    return "en" if 20 * sum(map(len, latin)) >= 19 * letters and _is_english(latin) else "other"


def _is_english(words: list[str]) -> bool:
    return len(words) < _ENOUGH_WORDS or 20 * sum(word in _ENGLISH for word in words) >= len(words)
