"""The audit's page: the verdict first, safe with hostile text, readable on a phone, no script."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_forge.audit.html import render
from codex_forge.defects import KINDS
from codex_forge.tokens import audit_lengths
from tests import browser
from tests.test_compare_html import CONTRAST

needs_browser = pytest.mark.skipif(
    bool(browser.missing()), reason=f"no browser: {browser.missing()}"
)

HOSTILE = (
    "</style></svg><script>document.title='owned'</script><img src=x onerror=alert(1)> {{ 7 }}"
)


def _lengths(count: int, longest: int) -> dict[str, Any]:
    texts = ["x" * (i * longest // count + 1) for i in range(count)]
    audit = audit_lengths(texts, lambda batch: [len(text) for text in batch], 256)
    return {k: v for k, v in vars(audit).items() if not k.startswith("worst")}


def sample(verdict: str = "fail") -> dict[str, Any]:
    kinds = {"chunk": 900, "query": 40, "positive": 900, "negative": 120, "text_a": 30, "text_b": 9}
    found = [
        {
            "kind": name,
            "severity": kind.severity,
            "leak": kind.leak,
            "cure": kind.cure,
            "count": 3 + i,
            "share": 0.00001 * i,
            "examples": [
                {"query_id": HOSTILE, "detail": HOSTILE},
                {"query_id": "", "detail": "w" * 300},
            ],
        }
        for i, (name, kind) in enumerate(KINDS.items())
    ]
    evidence = {
        "pairs": 12_345,
        "pairs_with_topics": 12_000,
        "pairs_with_cut_positive": 77,
        "lost": 7,
        "share": 7 / 12_345,
        "examples": [{"query_id": "q1", "detail": HOSTILE}],
    }
    return {
        "name": HOSTILE,
        "model": "package:some/model",
        "verdict": verdict,
        "reasons": [f"12 of 40 chunk texts are cut {HOSTILE}"] if verdict == "fail" else [],
        "limit": 256,
        "pairs_audited": 12_345,
        "rows_with_errors": 5,
        "rows_with_leaks": 2,
        "lengths": {kind: _lengths(400, longest) for kind, longest in kinds.items()},
        "worst": {
            kind: [{"tokens": longest, "begins": HOSTILE}] for kind, longest in kinds.items()
        },
        "evidence": evidence,
        "defects": found,
        "memory": {
            "how": "estimated",
            "tokens_of_texts": [20, 250],
            "bytes_a_pair": 5_000_000,
            "fixed_bytes": 3_000_000_000,
            "batch_sizes": {"8": 0, "80": 1024},
        },
        "advice": [f"cut the chunks {HOSTILE}"],
        "gates": {
            "max_truncated_share": 0.05,
            "max_evidence_lost_share": 0.01,
            "max_defect_share": 0.0,
        },
    }


def test_the_page_escapes_what_it_shows_and_asks_for_nothing() -> None:
    page = render(sample())
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 }}" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", page.replace("src=x", ""))
    assert "default-src 'none'" in page


def test_the_page_says_what_the_report_says() -> None:
    report = sample()
    page = render(report)
    assert page.index("The pairs fail") < page.index("Advice") < page.index("Lengths")
    assert "12,345" in page
    for each in report["defects"]:
        assert f"<code>{each['kind']}</code>" in page
        assert each["cure"].split("'")[0] in page
    assert page.count("<svg") == len(report["lengths"])
    assert "The pairs pass" in render(sample("pass"))


def test_a_report_of_little_is_a_page_too() -> None:
    report = copy.deepcopy(sample("pass"))
    report |= {"defects": [], "memory": None, "advice": []}
    report["lengths"] = {"text_a": _lengths(1, 1)}
    report["evidence"] |= {"pairs_with_topics": 0, "examples": []}
    page = render(report)
    assert "None was found" in page
    assert "is not known" in page


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_reads_well_on_screens(
    driver: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(sample()), encoding="utf-8")
    browser.screen(driver, width, 900, scheme)
    driver.get(path.as_uri())
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script(CONTRAST) == []
    assert driver.title.startswith("Audit of </style>")
    assert browser.problems(driver) == []
    bars = driver.execute_script(
        "return [...document.querySelectorAll('svg')].map((s) => "
        "[...s.querySelectorAll('rect')].filter((r) => r.getBoundingClientRect().width > 0).length)"
    )
    assert len(bars) == 6
    assert min(bars) > 0
