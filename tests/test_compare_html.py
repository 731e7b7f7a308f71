"""The report page: right words, safe with hostile text, and usable in a real browser."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from codex_forge.compare.html import render
from tests import browser

needs_browser = pytest.mark.skipif(
    bool(browser.missing()), reason=f"no browser: {browser.missing()}"
)

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"> & 'quoted' {{ 7 * 7 }} <!--"
RIGHT_TO_LEFT = "מי כתב את הספר \u202eהראשון\u202c على الطاولة؟"
CATEGORIES = ["people", "places", "events", "texts", ""]
DIFFICULTIES = ["easy", "medium", "hard", ""]
EDGES = [0, 1, 2, 3, 4, 5]


def _rows(count: int) -> list[dict[str, Any]]:
    dice = random.Random(7)
    rows = []
    for i in range(count):
        topics = dice.choice([2, 3, 4, 5])
        before = 5 * dice.randint(0, topics) / topics
        after = 5 * min(topics, dice.randint(0, topics) + (dice.random() < 0.6)) / topics
        text = f"Who kept the lighthouse of Port {i} after the flood, and what was it called then?"
        if i == 3:
            text = HOSTILE
        elif i == 4:
            text = RIGHT_TO_LEFT
        elif i == 5:
            text = "w" * 400
        rows.append(
            {
                "query_id": f"q{i:04d}",
                "question": text,
                "category": HOSTILE if i == 3 else dice.choice(CATEGORIES),
                "difficulty": dice.choice(DIFFICULTIES),
                "baseline": before,
                "candidate": before if i == 6 else after,
                "difference": 0.0 if i == 6 else after - before,
            }
        )
    return rows


def _metric(baseline: float, candidate: float, spread: float, **other: Any) -> dict[str, Any]:
    change = candidate - baseline
    return {
        "baseline": baseline,
        "candidate": candidate,
        "difference": change,
        "ci_low": change - spread,
        "ci_high": change + spread,
        "p_value": 0.0001,
        "win": 210,
        "tie": 190,
        "loss": 100,
        "candidate_low": candidate - spread,
        "candidate_high": candidate + spread,
        "baseline_low": baseline - spread,
        "baseline_high": baseline + spread,
        **other,
    }


def _chunk(rank: int, text: str, covers: dict[str, str], *, relevant: bool) -> dict[str, Any]:
    return {
        "rank": rank,
        "chunk_id": f"c{rank}",
        "filename": f"harbour/keepers-{rank}.md",
        "score": 0.91 - 0.04 * rank,
        "text": text,
        "covers": covers,
        "relevant": relevant,
    }


def _case(row: dict[str, Any], before: float, after: float) -> dict[str, Any]:
    story = (
        "After the flood the light at the point was kept by Old Marrow, whom the harbour records "
        "call Tobias Marrow. He trimmed it for eleven winters. " * 4
    )
    return {
        **{key: row[key] for key in ("query_id", "question", "category", "difficulty")},
        "baseline": before,
        "candidate": after,
        "topics": ["Tobias Marrow", "Gull Light", HOSTILE],
        "covered_baseline": {"Gull Light": "the light at the point"},
        "covered_candidate": {"Tobias Marrow": "Old Marrow", "Gull Light": "Gull Light"},
        "top_baseline": [
            _chunk(1, "Tide tables of the northern quay.\n" * 4, {}, relevant=False),
            _chunk(2, HOSTILE, {"Gull Light": "the light at the point"}, relevant=False),
            _chunk(3, RIGHT_TO_LEFT, {}, relevant=False),
        ],
        "top_candidate": [
            _chunk(1, story, {"Tobias Marrow": "Old Marrow"}, relevant=True),
            _chunk(2, "Gull Light was relit in spring.", {"Gull Light": ""}, relevant=True),
            _chunk(3, "x" * 900, {}, relevant=False),
        ],
    }


def _slice(questions: int, baseline: float, change: float, spread: float) -> dict[str, Any]:
    return {
        "questions": questions,
        "baseline": baseline,
        "candidate": baseline + change,
        "difference": change,
        "ci_low": change - spread,
        "ci_high": change + spread,
    }


def sample(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A report with everything in it, and hostile text wherever text comes from the corpus."""
    metrics = {"rubric": _metric(2.54, 3.25, 0.14)}
    for k, value in ((1, 0.31), (3, 0.48), (5, 0.57), (10, 0.68)):
        metrics[f"precision@{k}"] = _metric(value / k, value / k + 0.02, 0.01)
        metrics[f"recall@{k}"] = _metric(value, value + 0.011 * k, 0.03, p_value=0.0312)
    metrics["mrr@10"] = _metric(0.42, 0.40, 0.012, p_value=0.004)
    metrics["ndcg@10"] = _metric(0.45, 0.45, 0.02, p_value=1.0)
    metrics["map"] = _metric(0.39, 0.44, 0.03)
    return {
        "verdict": "improved",
        "tier": "usable",
        "tiers": [
            {"name": "minimal", "at_least": 2.0},
            {"name": "good", "at_least": 2.5},
            {"name": "usable", "at_least": 3.0},
            {"name": "excellent", "at_least": 3.5},
        ],
        "tier_judged_at": 3.11,
        "measure": "rubric",
        "part": "test",
        "folds": 0,
        "all_questions": None,
        "questions": len(rows),
        "groups": 412,
        "confidence": 0.95,
        "resamples": 10000,
        "smallest_detectable": 0.2,
        "baseline": {
            "name": "harbour-base",
            "fingerprint": "ab" * 32,
            "retriever": "dense",
            "model": "intfloat/multilingual-e5-small",
        },
        "candidate": {
            "name": "harbour",
            "fingerprint": "cd" * 32,
            "retriever": "dense",
            "model": "harbour (trained from intfloat/multilingual-e5-small)",
        },
        "metrics": metrics,
        "slices": {
            "category": {
                "people": _slice(140, 2.31, 0.91, 0.24),
                "places": _slice(120, 2.72, 0.66, 0.25),
                HOSTILE: _slice(1, 0.0, 5.0, 0.0),
                "": _slice(90, 2.6, -0.4, 0.3),
            },
            "difficulty": {
                "easy": _slice(120, 3.4, 0.1, 0.2),
                "hard": _slice(200, 1.9, 0.9, 0.2),
                "medium": _slice(180, 2.6, 0.6, 0.2),
            },
            "alias_in_index": {
                "true": _slice(210, 2.2, 1.1, 0.2),
                "false": _slice(290, 2.7, 0.4, 0.2),
            },
            "exposure": {
                "trained_chunk": _slice(260, 2.5, 0.9, 0.2),
                "unseen_chunk": _slice(240, 2.6, 0.5, 0.2),
            },
        },
        "distribution": {
            "edges": EDGES,
            "baseline": [90, 110, 120, 100, 80],
            "candidate": [40, 70, 110, 120, 160],
        },
        "latency_ms": {
            "baseline": {"p50": 11.24, "p95": 15.9},
            "candidate": {"p50": 11.31, "p95": 16.2},
        },
        "gained": [_case(rows[i], 0.0, 3.33) for i in (0, 3, 4, 5)],
        "lost": [_case(rows[7], 3.33, 1.67)],
        "recommendations": [
            "Use this model for retrieval; keep a person in the loop for hard questions.",
            f"Look at the category {HOSTILE} by hand.",
        ],
        "lineage": [
            {
                "kind": "model",
                "name": "harbour",
                "fingerprint": "ef" * 32,
                "digest": "01" * 32,
                "settings": {"train.epochs": 3, "train.loss": "mnrl", "model.lora": None},
                "inputs": {"pairs": "pairs/harbour 0123456789ab"},
            },
            {
                "kind": "evaluate",
                "name": "harbour",
                "fingerprint": "cd" * 32,
                "digest": "02" * 32,
                "settings": {"evaluate.k": [1, 3, 5, 10]},
                "inputs": {"model": "model/harbour efefefefefef"},
            },
        ],
        "versions": {"torch": "2.9.0", "sentence-transformers": "5.1.2"},
    }


ROWS = _rows(500)


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
    report["metrics"]["rubric"] = _metric(2.54, 2.54 + change, 0.14)
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
    report["slices"] = {"category": {"people": _slice(2, 1.0, 3.0, 0.5)}}
    words = _open(report).words
    assert "+3.00 (2.50 to 3.50) too few questions to tell" in words


def test_nothing_to_show_is_no_error() -> None:
    report = sample(ROWS)
    report.update(gained=[], lost=[], slices={"difficulty": {}}, recommendations=[], lineage=[])
    report.update(versions={}, latency_ms={"baseline": {}, "candidate": {"p50": None}})
    report["metrics"] = {"rubric": _metric(2.5, 2.5, 0.0, p_value=None)}
    report["distribution"]["baseline"] = report["distribution"]["candidate"] = [0] * 5
    words = _open(report, []).words
    assert "No question gained." in words
    assert "No question lost." in words
    assert "no fields to group them by" in words
    assert "nan" not in words.lower()


def test_a_missing_key_is_an_error_not_a_gap() -> None:
    import jinja2

    report = sample(ROWS)
    del report["part"]
    with pytest.raises((KeyError, jinja2.UndefinedError)):
        render(report, ROWS)


def test_hostile_text_stays_text() -> None:
    page = _open(sample(ROWS))
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
    assert render(sample(ROWS), ROWS) == render(sample(ROWS), ROWS)


def test_nothing_points_outside() -> None:
    page = _open(sample(ROWS))
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
    path.write_text(render(sample(ROWS), ROWS), encoding="utf-8")
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
@pytest.mark.parametrize("width", [1280, 360])
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
    rows = _rows(10_000)
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
