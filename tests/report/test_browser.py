"""The page in a real browser: no requests, no errors, no overflow, enough contrast."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest

from flatvq.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]

SECTIONS = [
    "verdict",
    "comparisons",
    "capacity",
    "fidelity",
    "samples",
    "curves",
    "usage",
    "data",
    "measured",
]

# WCAG 2 contrast of each visible text against the nearest opaque background behind it.
CONTRAST = """() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const texts = [...document.querySelectorAll('body *')].filter(e =>
    e.getClientRects().length && !['title', 'desc'].includes(e.tagName) &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return texts.map(e => { const style = getComputedStyle(e);
    const ink = light(parse(e.tagName === 'text' ? style.fill : style.color)), paper = light(behind(e));
    const [high, low] = ink > paper ? [ink, paper] : [paper, ink];
    return [(high + 0.05) / (low + 0.05), e.textContent.trim().slice(0, 40)]; });
}"""

# Elements that extend beyond the right edge of the page, except inside scrollable boxes.
OVERFLOW = """() => [...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.trim().slice(0, 30))"""


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, study_folder, edit):
    """Open the page of a study with a failed trial; collect errors and requests."""
    edit(
        study_folder,
        lambda tree: tree["trials"][0].update(status="failed", error="out of memory", psnr_db=None),
    )
    edit(study_folder, lambda tree: tree["arms"][0].update(name="two-level-naive-" + "long" * 20))
    path = write_report(study_folder)
    contexts = []

    def open_page(width: int, scheme: str):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.troubles, page.requests = [], []
        page.on("console", lambda message: page.troubles.append(message.text))
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_has_no_errors_no_overflow_and_enough_contrast(opened, width, scheme):
    page = opened(width, scheme)
    assert page.troubles == []
    assert [url for url in page.requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in page.requests if url.startswith("file:")]) == 1
    for section in [*SECTIONS, "failed"]:
        assert page.locator(f"#{section}").is_visible(), section
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 200
    assert [pair for pair in contrasts if pair[0] < 4.5] == []


def test_dark_and_light_differ(opened):
    papers = {
        opened(1280, scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert len(papers) == 2


def test_collapsibles_open_and_close_by_keyboard(opened):
    page = opened(1280, "light")
    row = page.locator("#files table")
    assert not row.is_visible()
    page.locator("#files summary").focus()
    page.keyboard.press("Enter")
    assert row.is_visible()
    page.keyboard.press("Enter")
    assert not row.is_visible()


def test_pictures_and_charts_have_descriptions(opened):
    page = opened(1280, "light")
    assert page.evaluate("[...document.images].every(image => image.alt)")
    charts = page.locator("svg[role=img]").all()
    assert len(charts) > 20
    assert all(chart.locator("> title").count() == chart.locator("> desc").count() == 1 for chart in charts)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_print_shows_collapsed_sections(opened):
    page = opened(1280, "light")
    page.emulate_media(media="print")
    assert page.locator("#files table").is_visible()
