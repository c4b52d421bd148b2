"""How much of the whole any one kind of conversation, and any one language, may take."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from statistics import median_low

from wikigpt.instruct.talk import Conversation


def balanced(conversations: Sequence[Conversation], balance: float, seed: int) -> list[Conversation]:
    """Return a random part of the conversations in which large kinds and languages are smaller.

    In each language a kind of n conversations, where the median kind has m < n, keeps m · (n / m)^(1 - balance) of
    them; then languages above the median language (of two: the smaller) are thinned alike. Smaller ones stay whole.
    That is the exponential smoothing by which multilingual models draw languages (Devlin et al. 2019; Arivazhagan
    et al. 2019, with temperature 1 / (1 - balance)), as a bound from above: nothing is repeated.

    Args:
        balance: 0 keeps everything, 1 makes no kind larger than the median kind of its language.
    """
    kept = list(conversations)
    for level in (("lang", "task"), ("lang",)):
        sizes = Counter(tuple(c[name] for name in level) for c in kept)
        wanted = {}
        for group, size in sizes.items():
            middle = median_low(n for other, n in sizes.items() if other[:-1] == group[:-1])
            wanted[group] = min(size, round(middle * (size / middle) ** (1 - balance)))
        places: dict[tuple[str, ...], list[int]] = {}
        for place, c in enumerate(kept):
            places.setdefault(tuple(c[name] for name in level), []).append(place)
        chosen: set[int] = set()
        for group, its in sorted(places.items()):
            chosen.update(Random(f"{seed}/balance/{'/'.join(group)}").sample(its, wanted[group]))
        kept = [c for place, c in enumerate(kept) if place in chosen]
    return kept
