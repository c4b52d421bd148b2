"""Line charts as SVG, drawn here in milliseconds: a plotting library takes longer to import than to draw a page."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
Text = tuple[str, str]  # in English and Chinese

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 26, 32  # margins; the legend stands in the upper one
MEANS, SINGLE = 80, 300  # most places along x of a line, and most steps shown one by one: the eye sees no more
CJK_FONTS = '"PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC"'
# Readable on a white and on a black ground.
COLORS = ("#3b82c4", "#e0812b", "#3a9d55", "#c8504f", "#8f6cc0", "#8a7a3b", "#c767a3", "#4aa3a3")

STYLE = f"""<style>
.chart {{ font: 12px system-ui, {CJK_FONTS}, sans-serif; fill: currentColor; }}
.chart .grid {{ stroke: currentColor; stroke-opacity: .15; }}
.chart polyline {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; }}
.chart polygon {{ fill-opacity: .22; }} .chart .thin {{ stroke-width: .8; stroke-opacity: .4; }}
.chart .dashed {{ stroke-dasharray: 5 4; stroke-width: 1.2; }}
</style>"""
ALONE = "<style>:root { background: #fff; color: #222; } .zh { display: none; }</style>"


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        kind: "noisy" is drawn as means over what 9 of 10 values lie in, "dots" as a line through its points, "dashed"
            as a line of which only the shape counts, scaled to the chart's height.
    """

    name: Text
    points: Sequence[Point]
    color: int
    kind: str = "dots"


def line_chart(title: Text, lines: Iterable[Line], *, from_zero: bool = False) -> str:
    """An `<svg>` element of curves over steps; as readable with ten points as with 100,000.

    Points that are not finite are left out. The y axis shows where the curves are after their first 2 %; a steep
    beginning and single outliers leave the chart at its top, as everything would else be one flat line.
    """
    lines = [Line(a.name, [p for p in a.points if math.isfinite(p[1])], a.color, a.kind) for a in lines]
    lines = [line for line in lines if line.points]
    scaled = [line for line in lines if line.kind != "dashed"]
    marks = [f'<text x="{LEFT}" y="13" font-weight="bold">{_both(title)}</text>']
    if not scaled:
        middle = f'x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" opacity=".6"'
        return _svg(title, [*marks, f"<text {middle}>{_both(('nothing yet', '尚无数据'))}</text>"])
    last = max(line.points[-1][0] for line in lines)
    low, high = _visible(scaled, last)
    ticks = _ticks(0 if from_zero else low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def at(point: Point) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * point[0] / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - point[1]) / (high - low)
        # Far beyond the frame all places are alike; without a limit some viewers lose the line.
        return f"{x:.1f},{min(max(y, -HEIGHT), 2 * HEIGHT):.1f}"

    for value in ticks:
        _, _, y = at((0, value)).partition(",")
        marks.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in _ticks(0, last, whole=True):
        x, _, _ = at((value, 0)).partition(",")
        if value <= last:
            marks.append(f'<path class="grid" d="M{x} {TOP}V{HEIGHT - BOTTOM}"/>')
            marks.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(value)}</text>')
    steps = _both(("steps", "步数"))
    marks.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end" opacity=".7">{steps}</text>')
    marks.append(f'<svg x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}" ')
    marks[-1] += f'viewBox="{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}" overflow="hidden">'
    for line in lines:
        color = COLORS[line.color % len(COLORS)]
        if line.kind == "dashed":
            top = max(y for _, y in line.points) or 1
            points = [(x, low + (high - low) * 0.96 * y / top) for x, y in grouped(line.points, SINGLE)[0]]
            marks.append(f'<polyline class="dashed" stroke="{color}" points="{" ".join(map(at, points))}"/>')
        elif line.kind == "noisy":
            marks += _noisy(line, color, at)
        else:
            marks.append(f'<polyline stroke="{color}" points="{" ".join(map(at, line.points))}"/>')
            if len(line.points) <= MEANS // 2:
                for point in line.points:
                    x, _, y = at(point).partition(",")
                    marks.append(f'<circle cx="{x}" cy="{y}" r="2.6" fill="{color}"/>')
    marks.append("</svg>")
    return _svg(title, [*marks, *_legend(lines)])


def grouped(points: Sequence[Point], most: int) -> tuple[list[Point], list[Point], list[Point]]:
    """Means, 5th and 95th percentiles of at most `most` groups of neighbouring points, each at its mean x."""
    size = math.ceil(len(points) / most)
    means, lows, highs = [], [], []
    for i in range(0, len(points), size):
        group = points[i : i + size]
        x, values = sum(p[0] for p in group) / len(group), sorted(p[1] for p in group)
        means.append((x, sum(values) / len(values)))
        lows.append((x, values[len(values) // 20]))
        highs.append((x, values[-1 - len(values) // 20]))
    return means, lows, highs


def alone(svg: str) -> str:
    """A chart as a file of its own: on white, in English."""
    return svg.replace(STYLE, STYLE + ALONE, 1)


def short(value: float) -> str:
    """12000 -> 12k, 0.30 -> 0.3"""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def _noisy(line: Line, color: str, at: Callable[[Point], str]) -> Iterable[str]:
    means, lows, highs = grouped(line.points, MEANS)
    if len(line.points) <= SINGLE:
        yield f'<polyline class="thin" stroke="{color}" points="{" ".join(map(at, line.points))}"/>'
    else:
        yield f'<polygon fill="{color}" points="{" ".join(map(at, [*highs, *reversed(lows)]))}"/>'
    yield f'<polyline stroke="{color}" points="{" ".join(map(at, means))}"/>'


def _visible(lines: Sequence[Line], last: float) -> tuple[float, float]:
    """The range of y to be seen: of single values 98 %, of means all, after the first 2 % of the steps."""
    values: list[float] = []
    for line in lines:
        later = [p for p in line.points if p[0] >= 0.02 * last] or list(line.points)
        values += [y for _, y in grouped(later, MEANS)[0]]
        if line.kind == "noisy":
            ordered = sorted(y for _, y in later)
            values += [ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]]
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 1
    return low - margin if low < 0 or low > margin else 0, high + margin


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Four to eight round numbers from `low` to `high`."""
    rough = max((high - low) / 6, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
    if whole:
        step = max(1, step)
    first, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, end + 1)] or [low]


def _legend(lines: Sequence[Line]) -> Iterable[str]:
    """Names of the curves, from the right; a letter is about 7 pixels wide."""
    right = WIDTH - RIGHT
    for line in reversed([line for line in lines if line.name[0]]):
        width = 7 * len(line.name[0]) + 28
        color = COLORS[line.color % len(COLORS)]
        kind = ' class="dashed"' if line.kind == "dashed" else ""
        yield f'<polyline{kind} stroke="{color}" points="{right - width:.0f},9 {right - width + 14:.0f},9"/>'
        yield f'<text x="{right - width + 18:.0f}" y="13">{_both(line.name)}</text>'
        right -= width


def _both(text: Text) -> str:
    english, chinese = map(escape, text)
    return f'<tspan class="en">{english}</tspan><tspan class="zh">{chinese}</tspan>' if text[0] != text[1] else english


def _svg(title: Text, marks: Iterable[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(" · ".join(title))}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size}>{STYLE}{"".join(marks)}</svg>'
