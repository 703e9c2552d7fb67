"""The report in a real browser: what is clicked works, and nothing of a guest's runs. Needs chromium and playwright."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.history import night
from harness.qualification import canary
from harness.qualification.canary import Canary
from harness.report import binder, content, earlier
from tests.report.conftest import write_run

_CHROMIUM = shutil.which("chromium")
api = pytest.importorskip("playwright.sync_api", reason="make check-report")
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="apt-get install chromium")
# WCAG 2.2, 1.4.3: the ratio of the relative luminances of text and background.
_LEAST_CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [r, g, b] = parse(colour).map((each) => linear(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (parse(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("a, h1, h2, p, td, th, dt, dd, li, pre, summary")];
  return Math.min(...texts.map((each) => {
    const [a, b] = [luminance(getComputedStyle(each).color), luminance(behind(each))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
_LINES = """(each) => {
  const range = document.createRange();
  range.selectNodeContents(each.querySelector("abbr") || each);
  return range.getClientRects().length;
}"""
# Pictures to look at, by whoever names a folder for them.
_PICTURES = os.environ.get("KIOS_E2E_PICTURES")


@pytest.fixture
def page(failed_run: Path, tmp_path: Path) -> Iterator[Any]:
    binder.bind([failed_run], tmp_path / "out")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page()
        shown.said = []
        shown.on("console", lambda message: shown.said.append(message.text))
        shown.on("pageerror", lambda error: shown.said.append(str(error)))
        shown.goto((tmp_path / "out/report.html").as_uri())
        yield shown
        assert shown.said == []
        browser.close()


def test_nothing_of_a_guests_runs(page: Any) -> None:
    assert page.title() == "kiOS: not qualified"
    assert page.locator("h1").inner_text() == "not qualified"


def test_a_cell_opens_its_evidence(page: Any) -> None:
    evidence = page.locator("#promise-1")
    assert evidence.get_attribute("open") is None
    for _ in range(2):
        page.locator("a.cell.passed").click()
        assert evidence.locator("pre").is_visible()
        evidence.locator("summary").click()
        assert not evidence.locator("pre").is_visible()


def test_a_failed_cell_leads_to_the_failure(page: Any) -> None:
    page.locator("a.cell.failed").press("Enter")
    assert page.evaluate("document.activeElement.id") == "failure-0"
    assert page.locator("#failure-0 h3").is_visible()
    assert page.locator("#failure-0 img").evaluate("image => image.naturalWidth") == 4


def test_the_console_is_searched(page: Any) -> None:
    page.get_by_label("Search the console").fill("LINE 42")
    lines = page.locator("#console-0-0 li")
    assert lines.count() == 400
    assert lines.locator("visible=true").count() == 10
    assert page.locator("output").inner_text() == "10 of 400 lines"
    page.get_by_label("Search the console").fill("")
    assert lines.locator("visible=true").count() == 400


@pytest.mark.parametrize("width", [1280, 390])
def test_no_word_in_a_table_is_torn(tmp_path: Path, failed_run: Path, width: int) -> None:
    canary.write(
        failed_run / canary.NAME, [Canary("order-failure", "scenarios/order.py::test_x", "a container", False, "no " * 99)]
    )
    for number in range(30):
        verdicts = {"order.py::test_bad": "passed", f"order.py::test_{'long_' * 20}name": "failed"}
        night.add(night.Night(f"n{number}", 86400.0 * number, "qualified", verdicts=verdicts), tmp_path / "history")
    binder.bind([failed_run], tmp_path / "out", history=tmp_path / "history")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900})
        shown.goto((tmp_path / "out/report.html").as_uri())
        lines = {
            text: shown.locator("th:visible", has_text=re.compile(f"^{text}$")).first.evaluate(_LINES)
            for text in ("caught", "order.py::test_bad", "01-30")
        }
        browser.close()
    assert set(lines.values()) == {1}, lines


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desk_and_a_phone_by_day_and_night(page: Any, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if _PICTURES:
        page.screenshot(path=f"{_PICTURES}/{scheme}-{width}.png", full_page=True)


def test_all_text_can_be_told_from_its_background(page: Any) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(_LEAST_CONTRAST) >= 4.5, scheme


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_has_nothing_against_a_page_with_everything_on_it(tmp_path: Path, scheme: str, width: int) -> None:
    """Roles, names, order of headings, contrast: whatever axe-core knows of WCAG, with everything unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make check-report")
    for number in range(2):
        write_run(tmp_path / f"runs/{number}", f"r{number}", boots=6)
    write_run(tmp_path / "before", "b", boots=6, failures=False, slow=1.9)
    binder.bind([tmp_path / "before"], tmp_path / "old")
    told = content.night_of(earlier.of(tmp_path / "old"))
    for number in range(20):
        slower = {name: value * 1.02**number for name, value in told.milestones.items()}
        made = night.Night(f"n{number}", told.at + 86400 * number, "qualified", verdicts=told.verdicts, milestones=slower)
        night.add(made, tmp_path / "history")
    out = tmp_path / "out"
    binder.bind(
        [tmp_path / "runs"], out, against=tmp_path / "old", history=tmp_path / "history", cut_short="it was interrupted"
    )
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.goto((out / "report.html").as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        found = axe.Axe().run(shown).response["violations"]
        browser.close()
    assert [(each["id"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"]) for each in found] == []
