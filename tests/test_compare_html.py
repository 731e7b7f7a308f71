"""The report page: right words, safe with hostile text, and usable in a real browser."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from codex_forge.compare.html import render
from tests import browser
from tests.made_report import (
    HOSTILE,
    ROWS,
    make_rows,
    metric,
    pairs_alone,
    part,
    sample,
    systems,
    whole,
)

needs_browser = pytest.mark.skipif(
    bool(browser.missing()), reason=f"no browser: {browser.missing()}"
)


class Page(HTMLParser):
    """What a parser finds: elements with their attributes, and text apart from scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.blocks: dict[str, str] = {}
        self.said = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.elements.append((tag, named))
        if tag in ("script", "style"):
            self._inside = named.get("id") or tag
            self.blocks[self._inside] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[self._inside] += data
        else:
            self.said += data

    def ids(self, tag: str) -> list[str]:
        """The ids of all elements of a kind that have one."""
        return [attrs["id"] for found, attrs in self.elements if found == tag and "id" in attrs]

    @property
    def words(self) -> str:
        """The text, with white space made plain."""
        return " ".join(self.said.split())


def _open(report: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> Page:
    return Page(render(report, ROWS if rows is None else rows))


def test_the_headline_says_what_happened_in_plain_words() -> None:
    words = _open(sample(ROWS)).words
    assert (
        "Fine-tuning helped: rubric 2.54 → 3.25 of 5, +0.71 (95 % interval 0.57 to 0.85)" in words
    )
    assert "The whole interval is above zero" in words
    assert "The tier “usable” starts at 3.00, the next one, “excellent”, at 3.50" in words
    assert "< 0.001" in words
    assert "answer chunk was never trained on" in words


@pytest.mark.parametrize(
    ("verdict", "change", "claim"),
    [
        ("unchanged", 0.0, "Fine-tuning made no clear difference: rubric 2.54 → 2.54 of 5, 0.00"),
        ("worse", -0.5, "Fine-tuning made it worse: rubric 2.54 → 2.04 of 5, −0.50"),
    ],
)
def test_other_verdicts(verdict: str, change: float, claim: str) -> None:
    report = sample(ROWS)
    report["verdict"], report["tier"], report["tier_judged_at"] = verdict, "change strategy", 1.9
    report["metrics"]["rubric"] = metric(2.54, 2.54 + change, 0.14)
    words = _open(report).words
    assert claim in words
    assert "The first tier, “minimal”, starts at 2.00" in words
    assert ("this could be chance" in words) is (change == 0)


def test_other_retrievers_are_not_called_fine_tuning() -> None:
    report = sample(ROWS)
    report["baseline"]["retriever"] = "bm25"
    words = _open(report).words
    assert "The candidate is better: rubric" in words
    assert "Fine-tuning" not in words


def test_a_group_of_a_few_questions_is_not_called_better() -> None:
    report = sample(ROWS)
    report["slices"] = {"category": {"people": part(2, 1.0, 3.0, 0.5)}}
    words = _open(report).words
    assert "+3.00 (2.50 to 3.50) too few questions to tell" in words


def test_nothing_to_show_is_no_error() -> None:
    report = sample(ROWS)
    report.update(gained=[], lost=[], slices={"difficulty": {}}, recommendations=[], lineage=[])
    report.update(versions={}, latency_ms={"baseline": {}, "candidate": {"p50": None}})
    report["metrics"] = {"rubric": metric(2.5, 2.5, 0.0, p_value=None)}
    report["distribution"]["baseline"] = report["distribution"]["candidate"] = [0] * 5
    page = _open(report, [])
    assert page.ids("section") == ["measures", "distribution", "made"]
    assert "nan" not in page.words.lower()
    report["gained"] = sample(ROWS)["gained"]
    assert "No question lost." in _open(report).words


# What is optional.

BASIC = ["measures", "slices", "distribution", "changes", "questions", "speed", "advice", "made"]
EVERYTHING = ["systems", "measures", "pairs", "levels", "must-pass", *BASIC[1:5], "power"]
REPORTS = {"basic": sample(ROWS), "whole": whole(ROWS), "pairs alone": pairs_alone()}


@pytest.mark.parametrize(
    ("report", "sections"),
    [
        ("basic", BASIC),
        ("whole", [*EVERYTHING, "advice", "made"]),
        ("pairs alone", ["pairs", "levels", "advice", "made"]),
    ],
)
def test_a_section_is_there_when_it_has_data(report: str, sections: list[str]) -> None:
    page = _open(REPORTS[report], ROWS if report != "pairs alone" else [])
    assert page.ids("section") == sections
    links = [a["href"] for tag, a in page.elements if tag == "a" and a.get("class") != "skip"]
    assert [link for link in links if link != "#levels"] == [
        f"#{name}" for name in sections if name != "levels"
    ]


def test_the_systems_are_told_with_their_costs() -> None:
    report = whole(ROWS)
    words = _open(report).words
    assert "harbour-bm25: rubric 2.31, interval 2.17 to 2.45" in words
    assert "harbour-bm25other, bm25 2.312.17 to 2.45 0.3300.310 to 0.350" in words
    assert "−0.23−0.35 to −0.11 0.002worse" in words
    assert "harbour-bm2511.215.91 480859.6 KiB–" in words
    assert "p (Holm)" in words
    report["systems"] = [{**s, "latency_ms": None, "queries_per_second": None} for s in systems()]
    words = _open(report).words
    assert "One question, ms" not in words
    assert "harbour-bm25859.6 KiB–" in words


def test_what_must_be_found_and_was_not_comes_first() -> None:
    words = _open(whole(ROWS)).words
    assert "Answers that must be found1 of 2 ✗ some are missing" in words
    table = words[words.index("Expects one of") :]
    assert table.index("<img") < table.index("who kept the light?")
    assert "who kept the light? harbour/keepers-1.md, harbour/lamps.md 5✗ rank 9✓ rank 1" in words


def test_scored_pairs_are_told_with_both_traps() -> None:
    words = _open(whole(ROWS)).words
    assert "spearmanwhether cosines put the pairs in the order of their scores 0.612" in words
    assert "Baseline: harbour-base ✗ fail same meaning, few words in common (41 pairs)" in words
    assert "Candidate: harbour ✓ pass same meaning, few words in common (41 pairs)" in words
    assert "from a cosine of 0.812 (baseline) and 0.544 (candidate) on" in words
    assert "Level by other measures production" in words
    assert "stretch ≥ 0.75✗ 0.687 ≥ 0.90✗ 0.864 no" in words


def test_scored_pairs_alone_are_judged_by_their_measure() -> None:
    page = _open(pairs_alone(), [])
    assert "Fine-tuning helped: spearman 0.612 → 0.718, +0.106 (95 % interval" in page.words
    assert "Both sides judged the same 812 pairs." in page.words
    for word in ("Tier", "Question by question", "None", "interval – to –"):
        assert word not in page.words


def test_texts_that_are_cut_are_told() -> None:
    report = whole(ROWS)
    cut = "12 of 3 710 texts of the kind chunk, and 3 pairs lose what they expect."
    assert f"The candidate reads 256 tokens of a text; longer are {cut}" in _open(report).words
    report["audit"] = {"limit": 256, "lost": 0, "kinds": {"chunk": {"texts": 9, "truncated": 0}}}
    assert "no text that was audited is longer." in _open(report).words


def test_the_chance_to_find_a_difference_is_drawn_and_said() -> None:
    report = whole(ROWS)
    report["power"] = [{"difference": 0.1, "power": 0.29}, {"difference": 0.2, "power": 0.8}]
    page = _open(report)
    assert "0.10: 29 %, 0.20: 80 %" in page.words
    assert "the smallest that is found in 4 of 5 cases, 0.20." in page.words
    dashed = next(attrs for _, attrs in page.elements if attrs.get("class") == "mark-line")
    dots = [attrs for tag, attrs in page.elements if tag == "circle" and attrs.get("r") == "4"]
    assert dots[-1]["cx"] == dashed["x1"]


def test_an_example_shows_rank_changes_and_what_taught_it() -> None:
    report = whole(ROWS)
    case = report["gained"][0]
    moved = case["top_baseline"][0]
    case["top_candidate"][2] = {**moved, "rank": 3}
    words = _open(report).words
    assert "1. harbour/keepers-1.md score 0.870 down 2" in words
    assert "2. harbour/keepers-2.md score 0.830 gone" in words
    assert "1. harbour/keepers-1.md score 0.870 new ✓ relevant" in words
    assert "The training pairs nearest to it" in words
    assert "tell me about Old Marrow 1 from entity its answer is a chunk that rose" in words


@pytest.mark.parametrize("report", REPORTS)
def test_headings_and_tables_make_sense_without_eyes(report: str) -> None:
    page = _open(REPORTS[report], ROWS if report != "pairs alone" else [])
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    drawn = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert tags.count("title") - 1 == len([a for a in drawn if a.get("role") == "img"])


def test_a_missing_key_is_an_error_not_a_gap() -> None:
    import jinja2

    report = sample(ROWS)
    del report["part"]
    with pytest.raises((KeyError, jinja2.UndefinedError)):
        render(report, ROWS)


def test_hostile_text_stays_text() -> None:
    page = _open(whole(ROWS))
    tags = [tag for tag, _ in page.elements]
    assert "img" not in tags
    assert tags.count("script") == 2
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
    assert HOSTILE in page.said
    assert "<" not in page.blocks["rows-data"]
    embedded = json.loads(page.blocks["rows-data"])
    assert [cells[1] for cells in embedded] == [row["question"] for row in ROWS]
    assert embedded[6][-1] == 0.0


def test_numbers_that_json_has_no_word_for_and_broken_text() -> None:
    rows = copy.deepcopy(ROWS[:8])
    rows[0]["baseline"] = float("nan")
    rows[1]["question"] = "half a pair \ud83d"
    text = render(sample(ROWS), rows)
    text.encode("utf-8")
    embedded = json.loads(Page(text).blocks["rows-data"])
    assert embedded[0][4] is None
    assert embedded[1][1] == "half a pair \ufffd"


def test_the_same_input_gives_the_same_page() -> None:
    assert render(whole(ROWS), ROWS) == render(whole(ROWS), ROWS)


def test_nothing_points_outside() -> None:
    page = _open(whole(ROWS))
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    style = page.blocks["style"]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


# In a real browser.


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(whole(ROWS), ROWS), encoding="utf-8")
    return path.as_uri()


def _shown(driver: Any, column: int) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((c) => c.innerText)"
    cells = f"#questions-body td:nth-child({column})"
    return [str(text) for text in driver.execute_script(script, cells)]


def _choose(driver: Any, name: str, words: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element(By.ID, name)).select_by_visible_text(words)


def _status(driver: Any) -> str:
    return str(
        driver.execute_script("return document.getElementById('questions-status').innerText")
    )


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_the_page_is_whole(driver: Any, address: str, width: int, scheme: str) -> None:
    browser.screen(driver, width, 800, scheme)
    driver.get(address)
    assert browser.problems(driver) == []
    assert driver.execute_script("return performance.getEntriesByType('resource')") == []
    assert driver.title == "Fine-tuning helped: rubric +0.71"
    script = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    driver.execute_script(script)
    wide, given = driver.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert wide <= given <= width
    back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) is (scheme == "dark")


@needs_browser
def test_a_page_without_questions_is_whole(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.html"
    path.write_text(render(pairs_alone(), []), encoding="utf-8")
    browser.screen(driver, 390, 800)
    driver.get(path.as_uri())
    assert browser.problems(driver) == []
    assert driver.title == "Fine-tuning helped: spearman +0.106"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    closed = "return document.querySelectorAll('details:not([open])').length"
    assert driver.execute_script(closed) == 0


@needs_browser
def test_the_keyboard_reaches_everything(driver: Any, address: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.screen(driver, 1280, 800)
    driver.get(address)
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.get_attribute("class") == "skip"
    wide = "return [...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)"
    assert driver.execute_script(wide)
    summary = driver.find_element(By.CSS_SELECTOR, ".case summary")
    summary.send_keys(Keys.ENTER)
    assert driver.execute_script("return arguments[0].parentElement.open", summary)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(driver: Any, address: str, scheme: str) -> None:
    browser.screen(driver, 1280, 800, scheme)
    driver.get(address)
    faint = driver.execute_script(CONTRAST)
    assert faint == []


@needs_browser
def test_filters_and_more(driver: Any, address: str) -> None:
    from selenium.webdriver.common.by import By

    browser.screen(driver, 1280, 800)
    driver.get(address)
    assert _status(driver) == "Showing 25 of 500 questions"
    driver.find_element(By.ID, "questions-more").click()
    assert _status(driver) == "Showing 125 of 500 questions"
    driver.find_element(By.ID, "filter").send_keys("PORT 499 flood")
    assert _status(driver) == "Showing 1 of 1 questions that fit (500 in all)"
    driver.find_element(By.ID, "questions-clear").click()
    assert _status(driver) == "Showing 25 of 500 questions"
    _choose(driver, "category", "places")
    _choose(driver, "difficulty", "not given")
    wanted = [r for r in ROWS if r["category"] == "places" and r["difficulty"] == ""]
    assert f"of {len(wanted)} questions that fit" in _status(driver)
    assert set(_shown(driver, 2)) == {"places"}
    assert set(_shown(driver, 3)) == {"–"}
    _choose(driver, "outcome", "Worse")
    assert all(text.startswith("−") for text in _shown(driver, 6))
    driver.find_element(By.ID, "questions-clear").click()
    driver.find_element(By.ID, "filter").send_keys("no such words")
    assert "No question fits" in _shown(driver, 1)[0]
    assert browser.problems(driver) == []


@needs_browser
def test_headers_sort_and_say_so(driver: Any, address: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.screen(driver, 1280, 800)
    driver.get(address)
    header = driver.find_element(By.CSS_SELECTOR, "th[data-field=candidate]")
    button = header.find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert header.get_attribute("aria-sort") == "descending"
    assert float(_shown(driver, 5)[0]) == max(r["candidate"] for r in ROWS)
    button.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in _shown(driver, 5)]
    assert values == sorted(values)
    assert len(driver.find_elements(By.CSS_SELECTOR, "th[aria-sort=ascending]")) == 1


@needs_browser
def test_hostile_text_does_nothing_in_the_browser(driver: Any, address: str) -> None:
    from selenium.webdriver.common.by import By

    browser.screen(driver, 1280, 800)
    driver.get(address)
    driver.find_element(By.ID, "filter").send_keys("onerror")
    assert HOSTILE in _shown(driver, 1)[0]
    assert driver.find_elements(By.TAG_NAME, "img") == []
    assert "owned" not in driver.title
    # Even a script that got into the page would not run: the policy knows one script only.
    driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
        "document.body.append(s);"
    )
    assert driver.execute_script("return window.owned === undefined")
    assert "Content Security Policy" in browser.problems(driver)[0]


@needs_browser
def test_on_paper_details_are_open_and_controls_are_gone(driver: Any, address: str) -> None:
    driver.get(address)
    browser.screen(driver, 700, 1000, media="print")
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    closed = "return document.querySelectorAll('details:not([open])').length"
    assert driver.execute_script(closed) == 0
    seen = "return getComputedStyle(document.querySelector('.controls')).display"
    assert driver.execute_script(seen) == "none"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 700
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script(closed) > 0
    browser.screen(driver, 1280, 800)


@needs_browser
def test_ten_thousand_questions_stay_quick(driver: Any, tmp_path: Path) -> None:
    rows = make_rows(10_000)
    path = tmp_path / "large.html"
    path.write_text(render(sample(rows), rows), encoding="utf-8")
    browser.screen(driver, 1280, 800)
    driver.get(path.as_uri())
    assert _status(driver) == "Showing 25 of 10000 questions"
    taken = driver.execute_script(
        "const f = document.getElementById('filter'); const t = performance.now();"
        "f.value = 'flood'; f.dispatchEvent(new Event('input')); return performance.now() - t"
    )
    assert taken < 2000
    assert browser.problems(driver) == []


# Every text on the screen against the nearest opaque background, by the formula of WCAG 2.
CONTRAST = """
const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
const light = (c) => {
  const [r, g, b] = c.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (let at = e; at; at = at.parentElement) {
    const c = parse(getComputedStyle(at).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
  }
  return [255, 255, 255];
};
const faint = [];
document.querySelectorAll("details").forEach((d) => { d.open = true; });
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const e = node.parentElement;
  if (!node.data.trim() || e.closest("script, style, noscript, title, .unsaid, .skip")) continue;
  const style = getComputedStyle(e);
  const ink = parse(e.closest("svg") ? style.fill : style.color).slice(0, 3);
  const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${e.tagName} ${node.data.trim()}`);
}
return [...new Set(faint)];
"""
