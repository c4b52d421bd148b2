"""Line charts as SVG that read well within a page, in either language, light or dark, and as files of their own."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Text = tuple[str, str]  # in English and Chinese

KEYS = 4  # most names of curves beside the title; more stand in rows below
MEANS, SINGLE = 80, 300  # most places along x of a line, and most steps shown one by one: the eye sees no more
STEPS, NOTHING = ("steps", "步数"), ("nothing yet", "尚无数据")
STYLE = ("default", {"svg.fonttype": "none", "svg.hashsalt": ""})  # whatever else the caller has set
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
# `svg:root` is a chart that is a file, never one within a page.
CSS = """<style>
.chart text { font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif !important }
svg:root { background: #fff; color: #222 } svg:root .zh { display: none }
</style>"""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        color: its number in matplotlib's cycle.
        kind: "noisy" is drawn as means over what 9 of 10 values lie in, "dots" as a line through its points, "dashed"
            as a line of which only the shape counts, scaled to the chart's height.
    """

    name: Text
    points: Sequence[Point]
    color: int
    kind: Literal["noisy", "dots", "dashed"] = "dots"


def line_chart(title: Text, lines: Iterable[Line], *, from_zero: bool = False) -> str:
    """An `<svg>` element of curves over steps; as readable with ten points as with 100,000.

    Points that are not finite are left out. The y axis shows where the curves are after their first 2 %; a steep
    beginning and single outliers leave the chart at its top, as everything would else be one flat line.
    """
    from matplotlib import style  # not earlier: it loads for longer than it draws
    from matplotlib.figure import Figure

    given = [(line, np.array(line.points, float).reshape(-1, 2)) for line in lines]
    finite = [(line, points[np.isfinite(points[:, 1])]) for line, points in given]
    curves = [(line, points) for line, points in finite if len(points)]
    with style.context(STYLE):
        named = sum(1 for line, _ in curves if line.name[0])
        below = -(-named // KEYS) * 0.22 if named > KEYS else 0.0  # inches for the names that do not fit above
        figure = Figure((5.8, 3.1 + below), frameon=False)
        axes = figure.add_axes((0.09, (0.5 + below) / (3.1 + below), 0.89, 2.26 / (3.1 + below)), frameon=False)
        axes.set_title(title[0], loc="left", fontweight="bold")
        if any(line.kind != "dashed" for line, _ in curves):
            _draw(axes, curves, from_zero)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, NOTHING[0], horizontalalignment="center", alpha=0.6)
        figure.savefig(svg := StringIO(), format="svg", metadata=NO_METADATA)
    return _for_a_page(svg.getvalue(), title, [STEPS, NOTHING, *(line.name for line, _ in curves if line.name[0])])


def grouped(points: np.ndarray, most: int) -> np.ndarray:
    """Rows of mean x, mean y, 5th and 95th percentile of y: of at most `most` groups of neighbouring points."""
    groups = np.array_split(points, min(most, len(points)))
    return np.array([(*group.mean(axis=0), *np.percentile(group[:, 1], (5, 95))) for group in groups]).T


def short(value: float) -> str:
    """12000 -> 12k, 0.30 -> 0.3"""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def _draw(axes: "Axes", curves: Sequence[tuple[Line, np.ndarray]], from_zero: bool) -> None:
    last = max(points[-1, 0] for _, points in curves)
    low, high = _visible([points for line, points in curves if line.kind != "dashed"], last)
    axes.set(xlim=(0, 1.01 * last or 1), ylim=(min(low, 0) if from_zero else low, high))
    axes.set_xlabel(STEPS[0], loc="right", alpha=0.7)
    axes.locator_params("x", integer=True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: short(value))
    axes.tick_params(left=False, bottom=False)
    axes.grid(color="black", alpha=0.15)
    for line, points in curves:
        color, label = f"C{line.color}", line.name[0]
        x, mean, lower, upper = grouped(points, MEANS if line.kind == "noisy" else SINGLE)
        if line.kind == "dashed":
            height, of_frame = 0.96 * mean / (mean.max() or 1), axes.get_xaxis_transform()
            axes.plot(x, height, "--", color=color, label=label, linewidth=1, transform=of_frame)
            continue
        if line.kind == "noisy" and len(points) <= SINGLE:
            axes.plot(*points.T, color=color, linewidth=0.8, alpha=0.4)
        elif line.kind == "noisy":
            axes.fill_between(x, lower, upper, color=color, linewidth=0, alpha=0.22)
        marker = "o" if line.kind == "dots" and len(points) <= MEANS // 2 else ""
        axes.plot(x, mean, color=color, label=label, marker=marker, markersize=4)
    named = sum(1 for line, _ in curves if line.name[0])
    if 0 < named <= KEYS:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=named, frameon=False)
    elif named:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), borderaxespad=0, ncols=KEYS, frameon=False)


def _visible(curves: Iterable[np.ndarray], last: float) -> tuple[float, float]:
    """The range of y to be seen: of each curve's values 98 %, after the first 2 % of the steps."""
    later = [points[points[:, 0] >= min(0.02 * last, points[-1, 0]), 1] for points in curves]
    ends = [np.percentile(values, (1, 99), method="nearest") for values in later]
    low, high = float(np.min(ends)), float(np.max(ends))
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 1
    return low - margin if low < 0 or low > margin else 0, high + margin


def _for_a_page(svg: str, title: Text, texts: Iterable[Text]) -> str:
    """The drawing in both languages, in the page's colours, with ids that no other chart has."""
    for english, chinese in (title, *texts):
        both = f'><tspan class="en">{escape(english)}</tspan><tspan class="zh">{escape(chinese)}</tspan></text>'
        svg = svg.replace(f">{escape(english, quote=False)}</text>", both)
    svg = re.sub(r'(?<= id=")|(?<=[("]#)', f"c{crc32(svg.encode()):08x}", svg)
    root, _, marks = svg[svg.index("<svg") :].replace("#000000", "currentColor").partition(">")
    label = escape(" · ".join(title))
    return f'{root} class="chart" role="img" aria-label="{label}" fill="currentColor">{CSS}{marks}'
