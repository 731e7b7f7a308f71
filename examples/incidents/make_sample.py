"""Write the incidents sample: pairs of tickets with a score and a label, in three phases.

    python make_sample.py OUT_FOLDER

Promise: the same bytes every time. A ticket is a thing, what is wrong with it, whom it hits and
since when; each of them can be said in two ways that share few words. In `easy` pairs the words
tell: what means the same is worded alike. In `hard` pairs they mislead: what means the same shares
few words, and what means something else differs in little more than one phrase. No text is in two
pairs, so that pairs can be split.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

SEED = 20260801
JSONL_PAIRS, CSV_PAIRS = 900, 420
PHASES = ("easy", "medium", "hard")

THINGS: dict[str, list[tuple[str, str]]] = {
    "access": [
        ("the payroll portal", "our salary website"),
        ("the badge reader", "the door's card scanner"),
        ("single sign-on", "the shared login page"),
        ("the guest account", "our visitor profile"),
        ("the approval form", "the page for permissions"),
    ],
    "mail": [
        ("the shared inbox", "our team mailbox"),
        ("the calendar", "the meeting planner"),
        ("the newsletter list", "our mass mailing group"),
        ("the spam filter", "the junk protection"),
        ("the address book", "the staff directory"),
    ],
    "network": [
        ("the VPN", "the remote tunnel"),
        ("the wireless network", "our Wi-Fi"),
        ("the proxy server", "the web gateway"),
        ("the file share", "the common drive"),
        ("the desk phone", "the IP handset"),
    ],
    "hardware": [
        ("the label printer", "our sticker machine"),
        ("the docking station", "the laptop cradle"),
        ("the projector", "the meeting room beamer"),
        ("the barcode gun", "the hand-held scanner"),
        ("the backup drive", "the tape unit"),
    ],
    "data": [
        ("the stock database", "our inventory tables"),
        ("the sales report", "the revenue overview"),
        ("the nightly import", "the overnight data load"),
        ("the search index", "the lookup catalogue"),
        ("the customer archive", "our old client records"),
    ],
}

FAULTS: list[tuple[str, str, str]] = [
    # said in one way, in another, and what sounds like the first and is something else
    ("does not start", "fails to come up", "does not stop"),
    ("is very slow", "takes ages to respond", "is very loud"),
    ("shows old data", "displays outdated content", "shows test data"),
    ("asks for the password again", "wants credentials once more", "sends the password again"),
    ("loses the connection", "drops out", "keeps the connection open"),
    ("denies permission", "refuses entry", "grants too much permission"),
    ("reports a full disk", "complains that storage ran out", "reports a missing disk"),
    ("freezes", "hangs and takes no input", "restarts"),
    ("repeats every entry twice", "doubles all records", "skips every second entry"),
    ("rejects attachments", "turns enclosed documents away", "renames attachments"),
    ("has the wrong time zone", "runs on a clock hours off", "has the wrong language"),
    ("cannot be found by name", "does not resolve", "cannot be renamed"),
]

USERS: list[tuple[str, str]] = [
    ("the warehouse", "our depot"),
    ("the call centre", "telephone support"),
    ("the third floor", "level 3"),
    ("headquarters", "the main building"),
    ("new employees", "recent hires"),
    ("the night shift", "people working late"),
    ("two managers", "a couple of supervisors"),
    ("the finance team", "accounting"),
    ("all contractors", "every external worker"),
    ("the training room", "the classroom"),
]

TIMES: list[tuple[str, str]] = [
    ("since this morning", "from early today"),
    ("after the update", "once the new version was rolled out"),
    ("since Monday", "from the start of the week"),
    ("about once an hour", "every sixty minutes or so"),
    ("after a power cut", "following an outage of electricity"),
    ("during lunch", "around noon"),
    ("since the move", "ever since we relocated"),
    ("at month end", "whenever the books are closed"),
    ("after the reset", "following a return to factory settings"),
    ("since the certificate expired", "now that the old key is no longer valid"),
]


class Incident(NamedTuple):
    """What a ticket is about, as positions in the vocabularies."""

    category: str
    thing: int
    fault: int
    user: int
    time: int


def first_wording(i: Incident, fault: str = "") -> str:
    """The ticket in the words of the first column."""
    said = fault or FAULTS[i.fault][0]
    thing = THINGS[i.category][i.thing][0].capitalize()
    return f"{thing} {said} for {USERS[i.user][0]} {TIMES[i.time][0]}."


def other_wording(i: Incident) -> str:
    """The same ticket with hardly a word in common."""
    time = TIMES[i.time][1].capitalize()
    return f"{time}, {THINGS[i.category][i.thing][1]} {FAULTS[i.fault][1]}: {USERS[i.user][1]} hit"


def half_wording(i: Incident) -> str:
    """The same ticket with half of its words changed."""
    thing = THINGS[i.category][i.thing][0].capitalize()
    return f"{thing} {FAULTS[i.fault][1]} for {USERS[i.user][0]} {TIMES[i.time][1]}."


def near_wording(i: Incident) -> str:
    """The same ticket in another order of words."""
    time = TIMES[i.time][0].capitalize()
    return f"{time} {THINGS[i.category][i.thing][0]} {FAULTS[i.fault][0]} for {USERS[i.user][0]}"


class Maker:
    """Draws incidents, and says each text once."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._random = random.Random(SEED)
        self._said: set[str] = set()

    def pair(self, phase: str, label: int) -> dict[str, Any]:
        """A pair of a phase that is the same incident (label 1) or not."""
        while True:
            one = self._incident()
            text_b, score = self._same(one, phase) if label else self._other(one, phase)
            text_a = first_wording(one)
            if not {text_a, text_b} & self._said:
                break
        self._said |= {text_a, text_b}
        texts = [text_a, text_b]
        self._random.shuffle(texts)
        return {
            "text_a": texts[0],
            "text_b": texts[1],
            "score": score,
            "label": label,
            "category": one.category,
            "phase": phase,
        }

    def _incident(self, category: str = "") -> Incident:
        draw = self._random.randrange
        found = category or self._random.choice(sorted(THINGS))
        sizes = len(THINGS[found]), len(FAULTS), len(USERS), len(TIMES)
        return Incident(found, *map(draw, sizes))

    def _score(self, low: int, high: int) -> float:
        return self._random.randint(low, high) / 100

    def _same(self, one: Incident, phase: str) -> tuple[str, float]:
        if phase == "easy":
            return near_wording(one), self._score(92, 100)
        if phase == "medium":
            return half_wording(one), self._score(85, 97)
        return other_wording(one), self._score(80, 95)

    def _other(self, one: Incident, phase: str) -> tuple[str, float]:
        if phase == "easy":
            others = [name for name in sorted(THINGS) if name != one.category]
            return other_wording(self._incident(self._random.choice(others))), self._score(0, 8)
        if phase == "medium":
            fault = (one.fault + self._random.randrange(1, len(FAULTS))) % len(FAULTS)
            time = (one.time + self._random.randrange(1, len(TIMES))) % len(TIMES)
            other = one._replace(fault=fault, time=time)
            return half_wording(other), self._score(20, 40)
        return first_wording(one, FAULTS[one.fault][2]), self._score(10, 30)


def make_sample(out: Path) -> None:
    """Write the sample's data files into `out`."""
    maker = Maker()
    count = JSONL_PAIRS + CSV_PAIRS
    records = [maker.pair(PHASES[i % 3], (i // 3) % 2) for i in range(count)]
    lines = [json.dumps(r, separators=(",", ":")) + "\n" for r in records[:JSONL_PAIRS]]
    out.mkdir(parents=True, exist_ok=True)
    (out / "pairs.jsonl").write_bytes("".join(lines).encode())
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["ticket", "earlier_ticket", "similarity", "duplicate", "team", "level"])
    for r in records[JSONL_PAIRS:]:
        stars = f"{5 * r['score']:.2f}"
        same = "yes" if r["label"] else "no"
        writer.writerow([r["text_a"], r["text_b"], stars, same, r["category"], r["phase"]])
    (out / "more_pairs.csv").write_bytes(table.getvalue().encode())


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(description="Write the incidents sample.")
    parser.add_argument("out", type=Path, help="folder to write the sample to")
    make_sample(parser.parse_args().out)


if __name__ == "__main__":
    main()
