"""The leaderboard for people: right words, safe with hostile text, usable in a real browser."""

from __future__ import annotations

import copy
import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.sweep.page import html, markdown, text
from codex_forge.sweep.page.facts import indexes
from codex_forge.sweep.page.table import duration
from codex_forge.sweep.page.winner import arguments, edges
from tests import browser
from tests.made_board import (
    BOARDS,
    GRID,
    HOSTILE,
    hostile,
    nothing,
    single,
    too_few,
    whole,
    with_missing,
)
from tests.sweep_world import config_of, write_config
from tests.test_compare_html import CONTRAST, Page

needs_browser = pytest.mark.skipif(
    bool(browser.missing()), reason=f"no browser: {browser.missing()}"
)
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def boards() -> dict[str, Tree]:
    return {name: make() for name, make in BOARDS.items()}


def _words(board: Tree) -> str:
    return Page(html(board)).words


# Words.


def test_the_headline_says_how_many_may_be_the_best_and_the_score() -> None:
    board = whole()
    choice = board["choice"]
    words = _words(board)
    assert f"{len(choice['alike'])} of 27 trials may be the best" in words
    assert len(choice["alike"]) > 1
    ends = f"{choice['low']:.2f} to {choice['high']:.2f}"
    score = f"rubric {choice['score']:.2f} of 5 on 140 dev questions (95 % interval {ends})"
    assert f"{choice['winner']} won with {score}" in words
    expected = choice["score"] - choice["optimism"]
    assert f"adds about {choice['optimism']:.2f} to its score" in words
    assert f"on new dev questions like these expect {expected:.2f}." in words
    assert f"{len(choice['alike']) - 1} of 26 other trials" in words


def test_the_winner_is_set_beside_the_others_on_test() -> None:
    board = whole()
    words = _words(board)
    assert "Winner on test: 3.11, interval 2.91 to 3.31" in words
    assert "Config as it stands on test: 3.02, interval 2.82 to 3.22" in words
    assert "Baseline on test: 2.47, interval 2.27 to 2.67" in words
    assert "On test the winner is better than the baseline: +0.64 (0.41 to 0.87)." in words
    assert "This is the number to quote" in words


def _everywhere(board: Tree, model: str = "") -> list[str]:
    """The words of the page, of the Markdown and of the terminal."""
    return [Page(html(board, model)).words, markdown(board, model), text(board, model)]


WORTH = [
    ((0.09, 0.01, 0.2), "On test the winner is better than the run as it stands: +0.09 (0.01 to"),
    ((0.09, 0.0, 0.2), "On test there is no clear difference between the winner and the run as it"),
    ((-0.3, -0.4, -0.2), "On test the winner is worse than the run as it stands: -0.30 (-0.40 to"),
]


@pytest.mark.parametrize(("numbers", "said"), WORTH)
def test_it_is_said_whether_the_sweep_was_worth_it(
    numbers: tuple[float, float, float], said: str
) -> None:
    board = whole()
    board["test"]["gain"] = dict(zip(("difference", "low", "high"), numbers, strict=True))
    for words in _everywhere(board):
        assert said in words.replace("\u2212", "-")
    board["test"]["gain"] = None
    assert not [words for words in _everywhere(board) if "the run as it stands" in words]


def test_dev_and_test_questions_are_told_apart_by_the_baseline() -> None:
    board = whole()
    said = "The test questions are harder: the baseline has 2.51 on dev and 2.47 on test."
    assert all(said in words for words in _everywhere(board))
    board["test"]["baseline"]["score"] = 2.6
    assert "The test questions are easier: the baseline has 2.51 on dev and 2.60" in _words(board)
    board["test"]["baseline"]["score"] = 2.511
    assert "the baseline has" not in _words(board)
    board["baseline"] = None
    assert "the baseline has" not in _words(board)


def test_a_gate_that_was_not_met_is_said() -> None:
    board = whole()
    assert not [words for words in _everywhere(board) if "sweep.gate" in words]
    board["gate"] = "tier minimal is below good"
    said = "The run as it stands has not passed sweep.gate: tier minimal is below good"
    for words in _everywhere(board):
        assert f"{said}; the trials were started all the same." in words
    for words in _everywhere({**nothing(), "gate": board["gate"]}):
        assert f"{said}." in words


def test_what_to_do_with_the_winner_is_said() -> None:
    board = whole()
    winner = next(t for t in board["trials"] if t["name"] == board["choice"]["winner"])
    given = " ".join(f"{key}={value}" for key, value in winner["overrides"].items())
    for words in _everywhere(board, f"/my store/train/{winner['name']}/"):
        assert f"ARGS='{given}'" in words
        assert f"/my store/train/{winner['name']}/" in words
    for words in _everywhere(board):
        assert f"train/{winner['name']}" in words


AWKWARD: Tree = {
    "train.learning_rate": 1e-05,
    "train.epochs": 2.5,
    "pairs.instruction": "it's $HOME: `a` #1\n",
    "train.matryoshka": [64, 32],
    "corpus.columns": {"text": "null", "id": "\u202eb \u00e9"},
    "audit.worst": None,
}


def test_the_line_to_paste_gives_what_the_winner_has(tmp_path: Path) -> None:
    board = single()
    board["trials"][0]["overrides"] = AWKWARD
    line = arguments(board)
    assert line.isprintable()
    # As the Makefile does: what make was given goes into a recipe without further quotes.
    makefile = tmp_path / "Makefile"
    makefile.write_text("show:\n\t@printf '%s\\0' $(ARGS)\n")
    command = f"make --no-print-directory -f {shlex.quote(str(makefile))} show {line}"
    told = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
    found = dict(each.split("=", 1) for each in told.stdout.rstrip("\0").split("\0"))
    read = {key: yaml.safe_load(value) for key, value in found.items()}
    assert {**read, "train.learning_rate": float(read["train.learning_rate"])} == AWKWARD
    board["trials"][0]["overrides"] = {}
    assert arguments(board) == ""


def test_the_config_reads_the_line_to_paste(tmp_path: Path) -> None:
    board = single()
    board["trials"][0]["overrides"] = {"train.learning_rate": 1e-05, "train.epochs": 2}
    given = shlex.split(shlex.split(arguments(board))[0].removeprefix("ARGS="))
    read = config_of(write_config(tmp_path), *given)
    assert (read.train.learning_rate, read.train.epochs) == (1e-05, 2)


def test_a_winner_at_the_edge_of_what_was_tried_is_told() -> None:
    board = whole()
    winner = next(t for t in board["trials"] if t["name"] == board["choice"]["winner"])
    point = {"train.learning_rate": 1e-05, "train.epochs": 4, "train.warmup_steps": 200}
    board["choice"]["winner"] = next(t["name"] for t in board["trials"] if t["overrides"] == point)
    said = [
        "1e-05 is the lowest value tried of train.learning_rate.",
        "200 is the highest value tried of train.warmup_steps.",
    ]
    assert list(edges(board)) == said
    for words in _everywhere(board):
        assert all(each in words for each in said)
    del winner["overrides"]["train.learning_rate"]  # it has the config's own, which is not known
    assert list(edges(board)) == said[1:]
    for trial in board["trials"]:
        trial["overrides"]["seed"] = trial["overrides"].pop("train.warmup_steps")
    board["keys"][-1] = "seed"
    assert list(edges(board)) == []


def test_a_trial_is_numbered_in_words_and_its_time_is_explained() -> None:
    words = _words(whole())
    assert re.search(r"trial \d+ ?winner", words)
    assert "Best in resamples" in words
    assert "Training time depends on the machine\u2019s load." in words
    assert "| best in resamples |" in markdown(whole())
    untimed = whole()
    for trial in untimed["trials"]:
        trial["seconds"] = None
    assert "Training time" not in _words(untimed)


def test_a_terminal_is_told_in_plain_signs() -> None:
    board = whole()
    choice = board["choice"]
    board["test"]["gain"] = {"difference": -0.3, "low": -0.4, "high": -0.2}
    said = text(board)
    score = f"rubric {choice['score']:.2f} of 5 on 140 dev questions (95 % interval "
    assert f"  {choice['winner']} won with {score}{choice['low']:.2f} to" in said
    assert "  Winner on test: 3.11 of 5 (2.91 to 3.31)\n" in said
    assert "  Config as it stands on test: 3.02 of 5 (2.82 to 3.22)\n" in said
    assert said.isascii()
    assert "None of the 27 trials has a score yet." in text(nothing())
    assert "Scored on test before: a." in text(
        {**board, "test": {**board["test"], "scored_before": ["a"], "once": False}}
    )


NOT_ONCE = [
    ({"scored_before": ["harbour-other"]}, "Scored on test before: harbour-other."),
    ({"known": "the winner is the run"}, "Not the first look at the test part: the winner is the"),
    (
        {"scored_before": [f"t{i}" for i in range(9)]},
        "Scored on test before: t0, t1, t2, t3, t4 and 4 more.",
    ),
]


@pytest.mark.parametrize(("before", "said"), NOT_ONCE)
def test_a_score_on_test_that_is_not_the_first_is_not_called_so(before: Tree, said: str) -> None:
    board = whole()
    board["test"].update(before, once=False)
    for words in (_words(board), markdown(board)):
        assert said in words
        assert "has a score here that is too high as well" in words
        assert "used once" not in words
        assert "This is the number to quote" not in words


def test_what_was_scored_on_test_is_said_when_nothing_is_now() -> None:
    board = {**with_missing(), "scored_before": ["harbour-other"]}
    for words in (_words(board), markdown(board)):
        assert "Nothing was scored on test: 3 trials are missing." in words
        assert "Scored on test before: harbour-other." in words


def test_a_trial_that_is_the_run_itself_is_named() -> None:
    board = {**whole(), "scored_as_run": ["harbour-same"]}
    assert "Scored on test before as part of the run itself: harbour-same." in _words(board)


def test_too_few_groups_are_said_and_nobody_is_called_behind() -> None:
    board = too_few()
    for words in (_words(board), markdown(board)):
        assert "Too few groups of questions to choose among 27 trials" in words
        assert "140 questions are worth 4.0 groups of equal size; a choice needs 5" in words
        assert "adds about" not in words
    assert "26 of 26 other trials (there are too few groups to tell)" in _words(board)
    assert all(trial["alike"] for trial in board["trials"])


def test_the_number_of_resamples_is_that_of_the_choice() -> None:
    board = whole()
    board["choice"]["resamples"] = 777
    words = _words(board)
    assert "of 777 resamples of the questions" in words
    assert "777 times, questions were drawn at random" in words


def test_a_row_tells_everything_about_a_trial() -> None:
    board = whole()
    trial = min((t for t in board["trials"] if t["behind"]), key=lambda t: t["rank"])
    said = html(board).split("<tr class=")[2]
    cells = [" ".join(text.split()) for text in Page(f"<table><tr {said}").said.split("\n")]
    text = " ".join(cell for cell in cells if cell)
    assert f"{trial['score']:.2f}{trial['low']:.2f} to {trial['high']:.2f}" in text
    behind = trial["behind"]
    assert f"{behind['difference']:.2f}" in text
    assert f"{behind['low']:.2f} to {behind['high']:.2f}".replace("-", "−") in text
    assert f"{trial['measures']['ndcg@10']:.3f}" in text
    assert duration(sum(trial["seconds"].values())).replace("\u00a0", " ") in text
    for key in GRID:
        assert f"{trial['overrides'][key]:g}" in text or str(trial["overrides"][key]) in text


def test_bars_are_as_long_as_their_intervals() -> None:
    board = whole()
    page = Page(html(board).split('id="trials-body"')[1].split("</tbody>")[0])
    lines = [a for tag, a in page.elements if a.get("class") == "range"]
    drawn = [float(a["x2"][:-1]) - float(a["x1"][:-1]) for a in lines]
    found = sorted(board["trials"], key=lambda trial: int(trial["rank"]))
    widths = [trial["high"] - trial["low"] for trial in found]
    assert len({round(a / b, 0) for a, b in zip(drawn, widths, strict=True)}) == 1


def test_missing_trials_have_a_reason_and_a_command() -> None:
    words = _words(with_missing())
    assert "4 of 27 trials have no rank; they took no part in the choice." in words
    assert "train.batch_size 4096 does not fit on this device; lower it" in words
    assert "evaluated on other questions" in words
    assert "python -m jobs.sweep CONFIG.yaml. As indexes of an array job: 4-6" in words
    assert "Nothing was scored on test: 3 trials are missing." in words


def test_without_any_score_there_is_no_choice() -> None:
    page = Page(html(nothing()))
    assert "No trial was chosen" in page.words
    assert "None of the 27 trials has a score yet." in page.words
    assert page.ids("section") == ["missing"]


def test_a_single_trial_is_not_called_the_best() -> None:
    page = Page(html(single()))
    assert "Only one trial has a score" in page.words
    assert "One trial leaves nothing to choose from" in page.words
    assert page.ids("section") == ["trials"]
    assert "How sure the choice is" not in page.words


def test_a_sweep_of_scored_pairs_speaks_of_pairs() -> None:
    board = {**whole(), "metric": "spearman"}
    for trial in board["trials"]:
        trial["measures"] = {"spearman": trial["score"], "roc_auc": 0.8}
    words = _words(board)
    assert f"won with spearman {board['choice']['score']:.3f} on 140 dev scored pairs" in words
    assert "The test scored pairs were used once" in words
    assert "question" not in words
    assert "question" not in markdown(board)


def test_each_key_that_varies_has_a_plot_with_means() -> None:
    board = whole()
    page = Page(html(board))
    for key, values in GRID.items():
        means = []
        for value in values:
            scores = [t["score"] for t in board["trials"] if t["overrides"][key] == value]
            means.append(f"{value:g}: {sum(scores) / len(scores):.2f} (9 trials)")
        assert f"Mean rubric by {key}: {', '.join(means)}" in page.words
    dots = [a for tag, a in page.elements if tag == "circle" and "dot" in a.get("class", "")]
    assert len(dots) == 3 * 27
    assert sum("won" in dot["class"] for dot in dots) == 3


def test_a_trial_without_a_key_stands_for_the_config() -> None:
    board = whole()
    del board["trials"][5]["overrides"]["train.epochs"]
    assert "by train.epochs: as in config: " in _words(board)


@pytest.mark.parametrize("name", BOARDS)
def test_headings_and_tables_make_sense_without_eyes(name: str, boards: dict[str, Tree]) -> None:
    page = Page(html(boards[name]))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    drawn = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in drawn)
    links = [a["href"] for tag, a in page.elements if tag == "a" and a.get("class") != "skip"]
    assert [link[1:] for link in links] == page.ids("section")
    assert "None" not in page.words.replace("None of the", "")
    assert "nan" not in page.words.split()


def test_hostile_text_stays_text() -> None:
    page = Page(html(hostile()))
    tags = [tag for tag, _ in page.elements]
    assert "img" not in tags
    assert tags.count("script") == 1
    assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
    assert page.said.count(HOSTILE) > 10


def test_nothing_points_outside() -> None:
    page = Page(html(with_missing()))
    for tag, attrs in page.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert "url(" not in page.blocks["style"]
    assert "@import" not in page.blocks["style"]
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")


def test_the_same_board_gives_the_same_page() -> None:
    assert html(whole()) == html(whole())


def test_a_missing_key_is_an_error_not_a_gap() -> None:
    board = copy.deepcopy(whole())
    del board["confidence"]
    with pytest.raises(KeyError):
        html(board)


@pytest.mark.parametrize(
    ("found", "written"),
    [([], ""), ([3], "3"), ([7, 5, 6, 0, 3], "0,3,5-7"), ([0, 1], "0-1"), ([1, 3], "1,3")],
)
def test_indexes_are_written_as_array_jobs_take_them(found: list[int], written: str) -> None:
    assert indexes([{"index": i} for i in found]) == written


@pytest.mark.parametrize(
    ("seconds", "written"), [(4, "4\u00a0s"), (90, "1.5\u00a0min"), (30_000, "8.3\u00a0h")]
)  # fmt: skip
def test_times_are_written_in_the_unit_that_suits_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written


# Markdown.


def test_markdown_says_the_same() -> None:
    board = whole()
    text = markdown(board)
    choice = board["choice"]
    assert f"**{len(choice['alike'])} of 27 trials may be the best.**" in text
    assert f"{choice['winner']} won with rubric {choice['score']:.2f} of 5" in text
    assert "- Winner on test: 3.11 (2.91 to 3.31), " in text
    assert "- Baseline on dev: 2.51 (2.31 to 2.71), harbour-base" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 27
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith(f"| 1 | {choice['winner']} |")


def test_markdown_of_hostile_text_is_a_table_still() -> None:
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark").enable("table").render(markdown(hostile()))
    assert "<script" not in rendered
    assert "<img" not in rendered
    page = Page(rendered)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("td") == 4 * tags.count("th")


def test_markdown_names_what_is_missing() -> None:
    text = markdown(with_missing())
    assert "4 of 27 trials have no rank:" in text
    assert "(failed): train.batch_size 4096 does not fit on this device; lower it" in text
    assert "as indexes of an array: `4-6`." in text
    assert "None of the 27 trials has a score yet." in markdown(nothing())


# In a real browser.


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(boards: dict[str, Tree], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for place, (name, board) in enumerate(boards.items()):
        path = folder / f"{place}.html"
        path.write_text(html(board), encoding="utf-8")
        found[name] = path.as_uri()
    return found


def _column(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((c) => c.innerText)"
    return [str(text) for text in driver.execute_script(script, f"#trials-body {selector}")]


def _status(driver: Any) -> str:
    return str(driver.execute_script("return document.getElementById('trials-status').innerText"))


@needs_browser
@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_the_page_is_whole(
    driver: Any, addresses: dict[str, str], name: str, width: int, scheme: str
) -> None:
    browser.screen(driver, width, 800, scheme)
    driver.get(addresses[name])
    assert browser.problems(driver) == []
    assert driver.execute_script("return performance.getEntriesByType('resource')") == []
    wide, given = driver.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert wide <= given <= width
    back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) is (scheme == "dark")
    assert driver.execute_script("return window.owned === undefined")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(
    driver: Any, addresses: dict[str, str], scheme: str
) -> None:
    browser.screen(driver, 1280, 800, scheme)
    driver.get(addresses["with missing"])
    assert driver.execute_script(CONTRAST) == []


@needs_browser
def test_drawings_keep_to_their_frame(driver: Any, addresses: dict[str, str]) -> None:
    browser.screen(driver, 390, 800)
    driver.get(addresses["whole"])
    outside = driver.execute_script(
        "return [...document.querySelectorAll('.key-plot circle, .sides circle')].filter((c) => {"
        "const a = c.getBoundingClientRect(), b = c.ownerSVGElement.getBoundingClientRect();"
        "return a.left < b.left - 6 || a.right > b.right + 6 || a.top < b.top"
        " || a.bottom > b.bottom"
        "}).length"
    )
    assert outside == 0
    lengths = driver.execute_script(
        "return [...document.querySelectorAll('#trials-body .range')]"
        ".map((c) => c.getBoundingClientRect().width)"
    )
    assert len(lengths) == 27
    assert min(lengths) > 10


@needs_browser
def test_headers_sort_and_say_so(driver: Any, addresses: dict[str, str]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.screen(driver, 1280, 800)
    driver.get(addresses["whole"])
    assert [int(rank) for rank in _column(driver, ".c-rank")] == list(range(1, 28))
    header = driver.find_element(By.CSS_SELECTOR, "th[data-sort=key0]")
    button = header.find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert header.get_attribute("aria-sort") == "ascending"
    rates = [float(text) for text in _column(driver, "td:nth-child(3)")]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    button.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in _column(driver, "td:nth-child(3)")] == rates[::-1]
    assert len(driver.find_elements(By.CSS_SELECTOR, "th[aria-sort=ascending]")) == 0
    driver.find_element(By.CSS_SELECTOR, "th[data-sort=best] button").click()
    ranks = [int(rank) for rank in _column(driver, ".c-rank")]
    shares = {t["rank"]: t["best_share"] for t in whole()["trials"]}
    assert [shares[rank] for rank in ranks] == sorted(shares.values(), reverse=True)


@needs_browser
def test_filters_and_more(driver: Any, addresses: dict[str, str], boards: dict[str, Tree]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    browser.screen(driver, 1280, 800)
    driver.get(addresses["many"])
    assert _status(driver) == "Showing 50 of 1000 trials"
    driver.find_element(By.ID, "trials-more").click()
    assert _status(driver) == "Showing 250 of 1000 trials"
    alike = len(boards["many"]["choice"]["alike"])
    kind = Select(driver.find_element(By.ID, "kind"))
    kind.select_by_visible_text("Behind")
    assert _status(driver) == f"Showing 50 of {1000 - alike} trials that fit (1000 in all)"
    assert all("behind" in text for text in _column(driver, "th"))
    kind.select_by_visible_text("May be the best")
    assert f"of {alike} trials that fit" in _status(driver)
    driver.find_element(By.ID, "trials-clear").click()
    driver.find_element(By.ID, "filter").send_keys("EPOCHS-7")
    assert _status(driver) == "Showing 50 of 100 trials that fit (1000 in all)"
    driver.find_element(By.ID, "filter").send_keys(" no such words")
    assert _column(driver, "td") == ["No trial fits. Clear the filters to see all."]
    assert browser.problems(driver) == []


@needs_browser
def test_the_keyboard_reaches_everything(driver: Any, addresses: dict[str, str]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.screen(driver, 1280, 800)
    driver.get(addresses["with missing"])
    driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.get_attribute("class") == "skip"
    wide = "return [...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)"
    assert driver.execute_script(wide)


@needs_browser
def test_on_paper_all_trials_are_there_and_controls_are_gone(
    driver: Any, addresses: dict[str, str]
) -> None:
    browser.screen(driver, 700, 1000, media="print")
    driver.get(addresses["many"])
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(_column(driver, "th")) == 1000
    seen = "return getComputedStyle(document.querySelector('.controls')).display"
    assert driver.execute_script(seen) == "none"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 700
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(_column(driver, "th")) == 50
    browser.screen(driver, 1280, 800)


@needs_browser
def test_without_scripts_the_table_is_whole(
    driver: Any, addresses: dict[str, str], tmp_path: Path
) -> None:
    browser.screen(driver, 1280, 800)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(addresses["many"])
        found = driver.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
        rows = driver.execute_cdp_cmd(
            "DOM.querySelectorAll", {"nodeId": found, "selector": "#trials-body tr"}
        )
        assert len(rows["nodeIds"]) == 1000
        shown = driver.execute_cdp_cmd(
            "DOM.querySelectorAll", {"nodeId": found, "selector": ".controls:not([hidden])"}
        )
        assert shown["nodeIds"] == []
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
