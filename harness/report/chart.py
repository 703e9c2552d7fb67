"""Charts as SVG: boots as bars of their stages, samples as dots, a quantity over the nights. Colours are the page's."""

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from harness.escape import shown
from harness.report.bar import Bar
from harness.report.content import Curve
from harness.report.earlier import Spread

_ROW, _LABELS, _WIDTH = 18, 330, 1000
_COLOURS = 8
_STAGE = '<rect x="{:.1f}" y="{}" width="{:.1f}" height="12" class="s{}{}"><title>{}</title></rect>'
_BUDGET = '<path d="M{0:.1f} {1}v14" class="budget"><title>{2}</title></path>'


def boots(bars: Sequence[Bar]) -> Markup:
    """A bar for each boot on one scale of seconds; a clone's frozen stages are pale, the end of a budget is a mark."""
    longest = max([1.0, *(max([bar.seconds, *(after for _, after, _ in bar.stages)]) for bar in bars)])
    names = list(dict.fromkeys(name for bar in bars for name, _, _ in bar.stages))
    scale = (_WIDTH - _LABELS - 60) / longest
    height = _ROW * (len(bars) + 1)
    parts = [_axis(longest, scale, height)]
    for row, bar in enumerate(bars):
        top = _ROW * (row + 1)
        label = f"{bar.test.rpartition('::')[2].removeprefix('test_')[:38]}, {bar.node}"
        parts.append(Markup('<text x="0" y="{}" class="label">{}</text>').format(top + 12, shown(label)))
        edges = [("", 0.0, False), *sorted(bar.stages, key=lambda stage: stage[1])]
        for (_, begin, _), (name, end, frozen) in pairwise(edges):
            parts.append(
                Markup(_STAGE).format(
                    _LABELS + begin * scale,
                    top + 2,
                    max(0.5, (end - begin) * scale),
                    names.index(name) % _COLOURS,
                    " frozen" if frozen else "",
                    shown(_came(name, end, bar.budgets.get(name)) + (", before it was frozen" if frozen else "")),
                )
            )
        last = max((after for _, after, _ in bar.stages), default=0.0)
        parts.append(
            Markup('<text x="{:.1f}" y="{}" class="value">{}</text>').format(
                _LABELS + last * scale + 4, top + 12, "clone" if bar.start == "clone" else f"{last:.1f} s"
            )
        )
        for budget in sorted({each for each in bar.budgets.values() if 0 < each <= longest}):
            due = ", ".join(name for name, each in bar.budgets.items() if each == budget)
            title = shown(f"budget of {due}: {budget:.1f} s")
            parts.append(Markup(_BUDGET).format(_LABELS + budget * scale, top + 1, title))
    return _svg(_WIDTH, height + 4, f"{len(bars)} boots and when each passed its stages", parts)


def _came(name: str, after: float, budget: float | None) -> str:
    return f"{name}: came after {after:.1f} s" + (f" of {budget:.1f} s" if budget is not None else "")


def legend(bars: Sequence[Bar]) -> list[tuple[str, int]]:
    """The stages and their colours."""
    names = dict.fromkeys(name for bar in bars for name, _, _ in bar.stages)
    return [(name, number % _COLOURS) for number, name in enumerate(names)]


def spread(spreads: Sequence[Spread], before: dict[str, Sequence[float]]) -> Markup:
    """A row of dots for each stage of a group; hollow ones are those of the report that this one is compared with."""
    longest = max([1.0, *(value for each in spreads for value in [*each.seconds, *before.get(each.stage, ())])])
    scale = (_WIDTH - _LABELS - 80) / longest
    height = _ROW * (len(spreads) + 1)
    parts = [_axis(longest, scale, height)]
    for row, each in enumerate(spreads):
        middle = _ROW * (row + 1) + 9
        parts.append(Markup('<text x="0" y="{}" class="label">{}</text>').format(middle + 4, shown(each.stage)))
        for kind, values in (("old", before.get(each.stage, ())), ("new", each.seconds)):
            shift = -3 if kind == "old" else 3 if before else 0
            for value in values:
                parts.append(
                    Markup('<circle cx="{:.1f}" cy="{}" r="3.5" class="{}"><title>{:.2f} s</title></circle>').format(
                        _LABELS + max(0.0, value) * scale, middle + shift, kind, value
                    )
                )
        parts.append(Markup('<text x="{}" y="{}" class="value">{:.1f} s</text>').format(_WIDTH - 60, middle + 4, each.median))
    return _svg(_WIDTH, height + 4, "What each stage took, a dot a boot", parts)


def curve(drawn: Curve) -> Markup:
    """A quantity over the nights, with a line where it changed."""
    width, height, values = 460, 120, list(drawn.values)
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) or 1.0

    def x(index: float) -> float:
        return 46 + index * (width - 60) / max(1, len(values) - 1)

    def y(value: float) -> float:
        return 14 + (high - value) / room * (height - 34)

    points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(values))
    parts = [
        Markup('<text x="0" y="18" class="value">{:.4g}</text><text x="0" y="{}" class="value">{:.4g}</text>').format(
            high, height - 16, low
        ),
        Markup('<polyline points="{}" class="line"/>').format(points),
    ]
    for index, before, after in drawn.changes:
        parts.append(
            Markup('<path d="M{0:.1f} 8V{1}" class="change"><title>from {2:.4g} to {3:.4g}</title></path>').format(
                x(index - 0.5), height - 14, before, after
            )
        )
    return _svg(width, height, f"{drawn.name} over {len(values)} nights", parts)


def _axis(longest: float, scale: float, height: int) -> Markup:
    step = next((each for each in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300) if longest / each <= 12), 600)
    ticks = [step * number for number in range(int(longest / step) + 1)]
    return Markup("").join(
        Markup('<path d="M{0:.1f} 14V{1}" class="tick"/><text x="{0:.1f}" y="10" class="axis">{2:g} s</text>').format(
            _LABELS + tick * scale, height, tick
        )
        for tick in ticks
    )


def _svg(width: int, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, escape(shown(title)))
    return head + Markup("").join(parts) + Markup("</svg>")
