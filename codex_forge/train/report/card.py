"""The model card, `model/README.md`: what the model is, how it was made, what was not tested.

Texts of the data (names of domains, prompts) are escaped: they are shown, never rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from codex_forge.train.report.card_facts import NAME

_TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "codex-forge")
_COUNTS = ("questions", "chunks", "pairs", "scored")
_MOST_DOMAINS = 50
_USE = """\
## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode_query(["what someone asks"])
documents = model.encode_document(["a text that may answer", "another"])
scores = model.similarity(queries, documents)
```
"""
_NOT_TESTED = """\
## Not tested

- The measures above chose among the weights of this training: they flatter it. `jobs.evaluate` and
  `jobs.compare` measure it on questions that training never saw.
- Texts of other domains, languages and lengths than those of its training data. What the base model
  could do there may have been lost.
- Whether what it finds is true, fair or safe to show.
"""


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `README.md` into the model's folder, over what the library wrote there."""
    (folder / NAME).write_text(card_of(facts), encoding="utf-8")


def card_of(facts: Mapping[str, Any]) -> str:
    """The card as Markdown, from what `facts_of` gives."""
    parts = (
        _front(facts),
        f"# {_plain(facts['name'])}\n\n{_what(facts)}\n",
        _USE + "\n" + _notes(facts),
        "## Training\n\n" + "\n".join(_training(facts)),
        "## Measures on dev data\n\n" + "\n".join(_measures(facts["measures"])),
        _NOT_TESTED,
        _licence(facts["from_base"]),
    )
    text = "\n".join(parts)
    return re.sub("[\ud800-\udfff\0]", "\ufffd", text)


def _front(facts: Mapping[str, Any]) -> str:
    """Front matter as model hubs read it."""
    told = {
        **facts["from_base"],
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": list(_TAGS),
    }
    if facts["base_model"]:
        told |= {"base_model": facts["base_model"], "base_model_relation": "finetune"}
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n"


def _what(facts: Mapping[str, Any]) -> str:
    base = facts["base"]
    shown = base if facts["base_model"] or base.startswith("package:") else Path(base).name
    return (
        f"A sentence embedding model: {_code(shown)}, fine-tuned by codex-forge in the run "
        f"{_code(facts['name'])}.\nIt turns a text into {facts['dimension']} numbers; texts that "
        "belong together have a high cosine."
    )


def _notes(facts: Mapping[str, Any]) -> str:
    """What to know when using it."""
    lines = [f"It reads the first {facts['max_seq_length']} tokens of a text."]
    if facts["prompts"]:
        lines.append("Its prompts are stored with it; these functions put them before the texts:\n")
        lines.extend(f"- {_plain(name)}: {_code(text)}" for name, text in facts["prompts"].items())
    if dims := [dim for dim in facts["matryoshka_dims"] if dim < facts["dimension"]]:
        several = ", ".join(map(str, dims))
        lines.append(
            f"\nIts vectors were trained to be cut to their first {several} numbers as well: "
            f"`SentenceTransformer(path, truncate_dim={dims[-1]})`."
        )
    return "\n".join(lines) + "\n"


def _training(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from _table(
        ("Stage", "Objective", "Rows", "Steps", "Epochs", "Batch", "Learning rate", "Final loss"),
        [
            (
                stage["stage"],
                stage["objective"],
                f"{stage['rows']:,}",
                f"{stage['steps']:,}",
                f"{stage['epochs']:.2f}",
                str(stage["batch_size"]),
                f"{stage['learning_rate']:g}",
                _number(stage["final_loss"]),
            )
            for stage in facts["stages"]
        ],
    )
    summary = facts["summary"]
    counts = ", ".join(f"{_plain(key)} {count:,}" for key, count in facts["counts"].items())
    yield f"\n- Data: {counts or 'not counted'}."
    yield f"- Audit of the data: {_plain(facts['verdict'] or 'none was asked for')}."
    yield (
        f"- Parameters: {summary['trainable_parameters']:,} trained of {summary['parameters']:,}; "
        f"{summary['precision']} on {_plain(summary['device'])}, ranks: {summary['ranks']}, "
        f"seed {facts['seed']}."
    )
    yield f"- Time: {summary['seconds']:,.0f} s.\n"


def _measures(measures: tuple[Mapping[str, Any], Mapping[str, Any]] | None) -> Iterator[str]:
    if measures is None:
        yield "None: the data have no dev questions and no dev pairs.\n"
        return
    base, own = measures
    names = [name for name, value in own.items() if _is_measure(name, value)]
    rows = [(name, _number(base.get(name)), _number(own[name])) for name in names]
    yield from _table(("Measure", "Base model", "This model"), rows)
    on = ", ".join(f"{own[name]:,} {name}" for name in _COUNTS if own.get(name))
    yield f"\nMeasured on {on}.\n" if on else ""
    domains = own.get("by_domain") or {}
    if len(domains) > 1:
        yield from _by_domain(base.get("by_domain") or {}, domains)
        yield ""


def _by_domain(
    base: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """A line a domain, the largest of them; each measure beside the base model's."""
    names = list(dict.fromkeys(n for v in own.values() for n, x in v.items() if _is_measure(n, x)))
    largest = sorted(own, key=lambda domain: (-_size(own[domain]), domain))[:_MOST_DOMAINS]
    rows = [
        (
            domain,
            f"{_size(own[domain]):,}",
            *(
                f"{_number(base.get(domain, {}).get(n))} → {_number(own[domain].get(n))}"
                for n in names
            ),
        )
        for domain in largest
    ]
    yield "By domain, base model → this model:\n"
    yield from _table(("Domain", "Dev", *names), rows)
    if hidden := len(own) - len(rows):
        yield f"\nAnd {hidden} smaller domains."


def _is_measure(name: str, value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return name not in _COUNTS and (value is None or is_number)


def _size(own: Mapping[str, Any]) -> int:
    return int(own.get("questions") or own.get("scored") or own.get("pairs") or 0)


def _licence(told: Mapping[str, Any]) -> str:
    said = told.get("license_name") or told.get("license")
    if said:
        shown = ", ".join(map(str, said)) if isinstance(said, list) else str(said)
        text = f"The base model's card names {_code(shown)}."
    else:
        text = "The base model's folder names none: ask where it comes from."
    return f"## Licence\n\n{text} The texts it was trained on have terms of their own.\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(map(_plain, head))
    yield _line("---" for _ in head)
    for row in rows:
        yield _line(map(_plain, row))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """A text on one line in which Markdown finds no sign of its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A text as code on one line, blanks at its ends included; it stands in no table."""
    shown = re.sub(r"\s", " ", text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    inner = f" {shown} " if longest or shown[:1] == " " or shown[-1:] == " " else shown
    return f"{fence}{inner}{fence}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
