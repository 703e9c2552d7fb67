"""The report as one HTML page: everything inline, nothing fetched, and only its own script may run."""

import base64
import datetime
import hashlib
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.escape import shown
from harness.report import chart
from harness.report.content import Content

NAME = "report.html"
_HERE = Path(__file__).parent
_MOST_NIGHTS = 30


def render(content: Content, earlier: dict[tuple[str, str], Sequence[float]]) -> str:
    """The page. `earlier` has the seconds of each group's stages in the report that this one is compared with."""
    style, script = (_HERE / "style.css").read_text(), (_HERE / "script.js").read_text()
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # What a guest wrote may hold whatever a terminal or a browser would act on.
    environment.finalize = lambda value: shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    environment.filters["when"] = _when
    environment.filters["lasted"] = _lasted
    # A file's name is bytes, of any kind.
    environment.filters["link"] = lambda path: quote(os.fsencode(path))
    # The last one first, where it is seen without scrolling.
    nights = content.nights[: -_MOST_NIGHTS - 1 : -1]
    spreads = [(group, list(each)) for group, each in groupby(content.spreads, key=lambda each: each.group)]
    return environment.get_template("report.html.jinja").render(
        it=content,
        style=Markup(style),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        boots=chart.boots(content.boots),
        legend=chart.legend(content.boots),
        spreads=[
            (group, chart.spread(each, {one.stage: earlier[group, one.stage] for one in each if (group, one.stage) in earlier}))
            for group, each in spreads
        ],
        changed=[(curve, chart.curve(curve)) for curve in content.curves if curve.changes],
        unchanged=[(curve, chart.curve(curve)) for curve in content.curves if not curve.changes],
        nights=nights,
        groups=[
            (promise, list(each)) for promise, each in groupby(content.promises, key=lambda each: each.test.partition("::")[0])
        ],
        night_tests=sorted({test for night in nights for test in night.verdicts}),
    )


def _when(at: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        # No clock had it: the line of a night may come from anywhere.
        return f"{at:g} s"


def _lasted(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
