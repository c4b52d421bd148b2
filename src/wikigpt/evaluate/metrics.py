"""Measures of texts and labels, 0 to 1; Chinese is counted by characters.

BLEU and chrF are sacrebleu's, ROUGE-L is rouge-score's: `pip install "wikigpt[eval]"`.
"""

import re
from collections.abc import Sequence
from typing import Any

from wikigpt.errors import UserError

# A Chinese character, or a run of other letters and digits; rouge-score's own pattern, [a-z0-9]+, finds no Chinese.
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], lang: str = "en") -> float:
    """Corpus BLEU (Papineni et al. 2002), by sacrebleu's tokenizer `zh` for Chinese and `13a` else.

    Args:
        references: for each hypothesis, the texts that are right; at least one.
    """
    _check(hypotheses, references)
    tokenizer = "zh" if lang == "zh" else "13a"
    return float(_sacrebleu().corpus_bleu(hypotheses, _streams(references), tokenize=tokenizer).score / 100)


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF (Popović 2015): F2 of character n-grams up to 6, the same for all languages."""
    _check(hypotheses, references)
    return float(_sacrebleu().corpus_chrf(hypotheses, _streams(references)).score / 100)


def sentence_chrf(hypothesis: str, references: Sequence[str]) -> float:
    """chrF of one text."""
    return float(_sacrebleu().sentence_chrf(hypothesis, list(references)).score / 100)


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (Chinese: characters), case ignored (Lin 2004); the best of all."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise _not_installed("rouge-score", "ROUGE-L") from None
    scorer = RougeScorer(["rougeL"], tokenizer=_Units())
    return float(scorer.score_multi(list(references), hypothesis)["rougeL"].fmeasure)


def accuracy(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Share of predictions that equal the truth."""
    _check(predicted, gold)
    return sum(p == g for p, g in zip(predicted, gold, strict=True)) / len(gold)


def macro_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Mean of the F1 of each label that occurs in truth or prediction: rare ones count as much as others."""
    _check(predicted, gold)
    pairs = list(zip(predicted, gold, strict=True))
    labels = {*predicted, *gold}
    hits = {label: sum(p == g == label for p, g in pairs) for label in labels}
    named = {label: sum(p == label for p, _ in pairs) + sum(g == label for _, g in pairs) for label in labels}
    return sum(2 * hits[label] / named[label] for label in labels) / len(labels)


class _Units:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return _UNITS.findall(text.casefold())


def _streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as sacrebleu wants them: all first ones, all second ones, …; None where there is none."""
    most = max(map(len, references))
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]


def _check(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} texts cannot be measured against {len(theirs)}")


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise _not_installed("sacrebleu", "BLEU and chrF") from None
    return sacrebleu


def _not_installed(package: str, measure: str) -> UserError:
    return UserError(f"{measure} need the package {package}: pip install 'wikigpt[eval]'.")
