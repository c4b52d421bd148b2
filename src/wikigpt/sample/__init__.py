"""The embedded bilingual sample wiki: an original mini-encyclopedia made from fact tables."""

from wikigpt.sample.dump import write_dumps

__all__ = ["write_dumps"]
