"""`report.html` of a corpus: one page, without outside files, of what was kept, what was not, and why."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from wikigpt.artifacts import write_atomic
from wikigpt.page import render_page

SHOWN_SKIPPED = 200
SHOWN_CHARS = 20_000  # of each side of a sample
HISTOGRAM_HEIGHT = 180  # pixels of the highest bar
LABELS = 12  # of the histogram's axis: as many as a phone's width has room for

# What happened to a page, in English and in Chinese.
REASONS = {
    "namespace": ("No article: a talk, user, file, template or help page", "不是条目：讨论、用户、文件、模板等页面"),
    "redirect": ("A redirect: kept as another name of the article that it leads to", "重定向：作为所指条目的别名保留"),
    "disambiguation": ("A disambiguation page: it only lists what a name may mean", "消歧义页：只列出同名条目"),
    "too_large": ("Larger than a wiki allows: damaged or made by a machine", "超过维基允许的长度：已损坏或由机器生成"),
    "too_slow": ("Took too long to read", "读取耗时过长"),
    "failed": ("Could not be read", "无法读取"),
    "damaged": ("Lies in a damaged part of the input", "位于输入文件的损坏部分"),
    "not_wikitext": ("Not wikitext: a script, a style sheet or data", "不是维基文本：脚本、样式表或数据"),
    "empty": ("Nothing is left without its templates, tables and files", "去掉模板、表格和文件后没有正文"),
    "too_short": ("Too short to learn from (the setting min_chars)", "过短（见设置 min_chars）"),
    "not_text": ("Mostly digits and symbols, hardly any words", "多为数字和符号，很少文字"),
    "wrong_script": ("Written in another script than the wiki's language", "所用文字与该维基的语言不符"),
    "duplicate": ("Exactly the text of another article", "与另一条目正文完全相同"),
    "near_duplicate": ("Almost the text of another article", "与另一条目正文几乎相同"),
    "beyond_max_documents": ("Beyond the number wanted (max_documents)", "超出所需数量（max_documents）"),
}  # fmt: skip
PRIVATE = {
    "email": ("E-mail addresses", "电子邮件地址"),
    "phone": ("Telephone numbers", "电话号码"),
    "id": ("Identity numbers", "身份证件号码"),
    "card": ("Payment card numbers", "银行卡号"),
    "iban": ("Bank account numbers (IBAN)", "国际银行账号（IBAN）"),
    "ip": ("IP addresses", "IP 地址"),
    "mac": ("MAC addresses of devices", "设备 MAC 地址"),
    "credentials": ("User names with passwords in web addresses", "网址中的用户名和密码"),
}


def write_report(path: Path, manifest: Mapping[str, Any], samples: Sequence[Mapping[str, str]]) -> None:
    """Write the page at `path`, in English and Chinese; it runs no script and loads nothing.

    `manifest`: what `corpus.json` says, and `seconds`. Its `lengths`, `leftovers`, `skipped`, `privacy`, `damage`,
    `encrypted_for` and `seconds` may be missing; what tells of them is left out then. `samples`: articles as
    `{"title", "url", "before", "after"}`, wikitext and text. Raises `OSError` if the file cannot be written.
    """
    languages = manifest["languages"]
    page = render_page(
        "corpus/report.html.j2",
        {"marked": _marked, "address": _address, "cut": _cut, "setting": _setting},
        share=_share,
        m=manifest,
        chinese=languages.get("zh", 0) * 2 > sum(languages.values()),
        drops=_largest_first(manifest["drops"], REASONS),
        private=_largest_first(manifest.get("privacy") or {}, PRIVATE),
        leftovers=_largest_first({k: v["documents"] for k, v in (manifest.get("leftovers") or {}).items()}, {}),
        histogram=_histogram(manifest.get("lengths")),
        skipped=manifest.get("skipped", [])[:SHOWN_SKIPPED],
        samples=samples,
    )
    write_atomic(Path(path), page)


def _share(part: float, whole: float) -> str:
    """A share in per cent with as many digits as tell it from nothing."""
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.{max(0, 1 - math.floor(math.log10(percent)))}f} %" if percent < 10 else f"{percent:.0f} %"


def _largest_first(counts: Mapping[str, int], explanations: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows of a bar chart: name, explanation in both languages if there is one, count, width in per cent."""
    most = max(counts.values(), default=0) or 1
    return [
        {"name": name, "explanation": explanations.get(name), "count": count, "width": round(100 * count / most, 2)}
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _histogram(lengths: Mapping[str, Sequence[int]] | None) -> list[dict[str, Any]]:
    """Bars over a logarithmic axis: x and width in per cent of the axis, height in pixels.

    `lengths`: counts of documents between neighbouring edges; as many counts as edges leave the last range open.
    """
    if not lengths or not sum(lengths["counts"]):
        return []
    edges, counts = list(lengths["edges"]), list(lengths["counts"])
    last_is_open = len(counts) == len(edges)
    while counts and not counts[-1]:
        counts.pop()
        last_is_open = False
    # A range from 0, and one without an end, are drawn twice as wide as their known edge says.
    ends = [*edges[: len(counts)], edges[-1] * 2 or 1 if last_is_open else edges[len(counts)]]
    places = [math.log2(end or ends[1] / 2) for end in ends]
    span = places[-1] - places[0]
    every = math.ceil(len(counts) / LABELS)
    bars = []
    for i, count in enumerate(counts):
        is_open = last_is_open and i == len(counts) - 1
        bars.append(
            {
                "x": round(100 * (places[i] - places[0]) / span, 3),
                "width": round(100 * (places[i + 1] - places[i]) / span, 3),
                "height": max(round(HISTOGRAM_HEIGHT * count / max(counts), 1), 1.5 if count else 0),
                "count": count,
                "count_label": _short(count) if count else "",
                "range": f"≥ {ends[i]:,}" if is_open else f"{ends[i]:,} – {ends[i + 1] - 1:,}",
                "label": _short(ends[i]) if i % every == 0 else "",
                "end": _short(ends[-1]) if i == len(counts) - 1 and not is_open else "",
            }
        )
    return bars


def _short(number: int) -> str:
    """1500 -> 1.5k"""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return str(number)


def _marked(context: str, pattern: str) -> Markup:
    """The context as HTML with the pattern highlighted."""
    return Markup("<mark>{}</mark>").format(pattern).join(escape(piece) for piece in context.split(pattern))


def _address(url: str) -> str:
    """The URL if a browser may follow it: a dump can name any, `javascript:` ones included."""
    return url if url.startswith(("https://", "http://")) else ""


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + " …"


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
