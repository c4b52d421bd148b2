"""Wikitext to plain text: what a reader of the page sees.

`read` puts the steps together. `tags` takes comments and extension tags out, `brackets` replaces templates
(`templates` and its table, `functions`, `inline`, `units`, …), `links` and `-{…}-` (`variants`), `tables` and `layout`
read lines, `finish` the HTML. What takes a pass over the whole page is in `scan`, and compiled in `native`; `kernels`
says which of the two is used. `phrases` tells `native` what to leave to opencc.
"""

from wikigpt.corpus.wikitext.finish import decode_entities, strip_html
from wikigpt.corpus.wikitext.read import Article, Options, Page, TooSlow, clean_wikitext, read_wikitext

__all__ = [
    "Article",
    "Options",
    "Page",
    "TooSlow",
    "clean_wikitext",
    "decode_entities",
    "read_wikitext",
    "strip_html",
]
