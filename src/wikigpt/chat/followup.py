"""Follow-up questions made to stand alone: "What is its currency?" after a question about France.

Rules only, on purpose: a small model rewrites badly, and a wrong subject is worse than none.
"""

import re

_POSSESSIVE = re.compile(r"\b(?:its|their|his|her)\b(?=\s+\w)", re.I)
_THERE = re.compile(r"(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )\bthere\b(?=\s*[?.!]*$)", re.I)
_SUBJECT = re.compile(
    r"\b(?:it|they|he|she|him|them"
    r"|(?:this|that) (?:country|city|place|animal|plant|element|language|person|book|one))\b",
    re.I,
)
_OPENER = re.compile(
    r"^(?:(?:and|but|ok|so|then)\b[\s,]*)*(?:(?:what|how) about\b|(?:and|ok|so|then|for)\b)?[\s,]*(?:for\b)?\s*", re.I
)

_HAN_POSSESSIVE = re.compile(r"(?:它们?|他们?|她们?|该国|该市|该地|这个国家|这个城市|那里|那儿|那个国家)的")
_HAN_ITS = re.compile(r"(?<![耳尤极与何莫])其(?![他中它实次余])")
_HAN_SUBJECT = re.compile(
    r"(?<![其吉])(?:它们?|他们|她们?|他(?!信|国|人|乡)|该国|该市|该地|该元素|该语言|那里|那儿|这里|这个国家|那个国家|这座城市|这种动物|这种语言|这个元素)"
)
_HAN_OPENER = re.compile(r"^(?:那么?(?![里儿个])|还有|另外|然后|请问|换成|换作|至于)*[，,\s]*")
_HAN_ENDING = re.compile(r"(?:呢|又如何|怎么样|如何|又是怎样)[？?！!。]*$")
_WIDE = re.compile(r"最|世界|全球|哪个|哪些|哪座|哪种|谁|为什么|怎么|如何")


def pointer(question: str) -> int | None:
    """Return where in `question` the first pointing word stands; None without one."""
    patterns = (_POSSESSIVE, _THERE, _SUBJECT, _HAN_POSSESSIVE, _HAN_ITS, _HAN_SUBJECT)
    starts = [match.start() for pattern in patterns if (match := pattern.search(question))]
    return min(starts, default=None)


def with_subject(question: str, subject: str, lang: str) -> str:
    """Return `question` with its pointing words replaced by `subject`, or `subject` put where it was left out."""
    if lang == "zh":
        replaced = _HAN_POSSESSIVE.sub(f"{subject}的", question)
        replaced = _HAN_SUBJECT.sub(subject, _HAN_ITS.sub(f"{subject}的", replaced))
        if replaced != question:
            return replaced
        bare = _HAN_ENDING.sub("是什么？", _HAN_OPENER.sub("", question)).removeprefix("此人的")
        return f"{subject}的{bare.removeprefix('的')}"
    replaced = _POSSESSIVE.sub(f"{subject}'s", question)
    replaced = _SUBJECT.sub(subject, _THERE.sub(f"in {subject}", replaced))
    if replaced != question:
        return replaced
    bare = _OPENER.sub("", question).rstrip(" ?.!")
    return f"{bare} of {subject}?"


def leaves_subject_out(question: str, lang: str) -> bool:
    """Whether `question` is likely about the subject of the one before although it does not say so."""
    if lang == "zh":
        return len(question) <= 14 and not _WIDE.search(_HAN_ENDING.sub("", question))
    opener = _OPENER.match(question)
    return len(question.split()) <= 7 and opener is not None and opener.end() > 0


def names_new_subject_only(question: str, names: list[str]) -> bool:
    """Whether `question` says nothing but a new subject: "And Germany?", "And that of Japan?", "那德国呢？"."""
    rest = _HAN_ENDING.sub("", _HAN_OPENER.sub("", _OPENER.sub("", question.strip())))
    for name in sorted(names, key=len, reverse=True):
        rest = re.sub(re.escape(name), "", rest, flags=re.I)
    return rest != question and not re.sub(r"[\s\W]|\b(?:the|that|those|one|of|in|for)\b|的|呢", "", rest)


def with_new_subject(earlier: str, old_names: list[str], new: str) -> str | None:
    """Return the `earlier` question asked about `new`; None where none of the old names stands in it."""
    for name in sorted(filter(None, old_names), key=len, reverse=True):
        if re.search(re.escape(name), earlier, re.I):
            return re.sub(re.escape(name), lambda _: new, earlier, flags=re.I)
    return None
