"""The kinds of defects: name, severity, where it is seen, and the cure in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
"""`error`: counts as a defect, and `pairs` removes the row; `warning`: a reader should look;
`note`: a fact about the row that need not be wrong."""
Sight = Literal["row", "rows", "set"]
"""Seen in a row alone, by comparing rows, or in the set as a whole."""


@dataclass(frozen=True)
class Kind:
    """One kind of defect."""

    name: str
    severity: Severity
    sight: Sight
    cure: str

    @property
    def leak(self) -> bool:
        """Whether it lets training see what the test holds."""
        return self.name.startswith("leak_")


class Defect(NamedTuple):
    """A defect that was found. `detail` quotes the data: escape it before a browser shows it."""

    kind: str
    severity: Severity
    detail: str


_KINDS: tuple[tuple[str, Severity, Sight, str], ...] = (
    # Texts of a pair.
    ("missing_text", "error", "row", "give every pair a query and a positive that are texts"),
    ("empty_query", "error", "row", "write the query, or drop the pair"),
    ("near_empty_query", "error", "row", "ask in words; one sign says nothing"),
    ("empty_positive", "error", "row", "drop the chunk; it has no text"),
    ("near_empty_positive", "error", "row", "drop the chunk; one sign answers nothing"),
    ("empty_negative", "error", "row", "drop the negative"),
    ("near_empty_negative", "error", "row", "drop the negative"),
    ("query_is_positive", "error", "row", "give a query that is not its own answer"),
    ("positive_in_query", "warning", "row", "give an answer that says more than its query"),
    ("query_is_negative", "error", "row", "drop the negative"),
    ("unfilled_template", "error", "row", "fill the placeholder, or mend the template"),
    # Negatives of a pair.
    ("negative_is_positive", "error", "row", "drop the negative: it is the answer"),
    ("negative_near_positive", "error", "row", "drop the negative: it says what the answer says"),
    ("negative_covers_topics", "error", "row", "drop the negative: it names all that is asked for"),
    ("duplicate_negative", "error", "row", "name each negative once"),
    ("uneven_negatives", "error", "row", "give as many ids and sources as negatives"),
    ("inverted", "note", "row", "look whether the negative answers better; drop_inverted removes"),
    # Facts about a pair.
    ("unknown_phase", "warning", "row", "use easy, medium or hard: others are not trained on"),
    ("missing_id", "warning", "row", "give the row an id, so that it can be found again"),
    # Damaged texts.
    ("mojibake", "warning", "row", "read the file in its own encoding (corpus.encoding)"),
    ("replacement_character", "warning", "row", "read the file in its own encoding"),
    ("control_characters", "warning", "row", "strip control characters when extracting the text"),
    ("html_remains", "warning", "row", "strip tags and unescape entities when extracting"),
    ("escape_left_over", "warning", "row", "decode the JSON escapes once more"),
    ("repetitive_text", "warning", "row", "drop the chunk: it says one thing over and over"),
    ("mostly_symbols", "warning", "row", "drop the chunk: tables of signs carry no meaning"),
    ("script_mismatch", "warning", "row", "check that query and positive are of one language"),
    # What the model cannot read.
    ("truncated_query", "warning", "row", "shorten the query, or raise model.max_seq_length"),
    ("evidence_past_cut", "warning", "row", "make chunks shorter: the answer lies past the cut"),
    # Across pairs.
    ("duplicate_pair", "error", "rows", "keep one of them"),
    ("negative_answers_elsewhere", "error", "rows", "drop the negative: another pair rewards it"),
    ("id_of_two_texts", "warning", "rows", "give each text an id of its own"),
    ("frequent_query", "warning", "rows", "ask what only its answer tells"),
    ("frequent_positive", "warning", "rows", "drop boilerplate chunks"),
    ("frequent_negative", "warning", "rows", "take negatives from more of the corpus"),
    # Leaks.
    ("leak_exact", "error", "row", "drop the pair: it asks a held-out question"),
    ("leak_normalised", "error", "row", "drop the pair: only case or signs differ"),
    ("leak_near_duplicate", "error", "row", "drop the pair: few letters differ"),
    ("leak_by_alias", "error", "row", "drop the pair: the same question under another name"),
    ("leak_in_positive", "error", "row", "drop the pair: its answer quotes a held-out question"),
    ("leak_in_negative", "error", "row", "drop the negative: it quotes a held-out question"),
    ("leak_pair", "error", "row", "drop the pair: it is held out, perhaps the other way round"),
    ("leak_chunk", "error", "row", "drop the pair: its chunk is held out"),
    # Scored and labelled pairs.
    ("missing_score", "error", "row", "give a score or a label"),
    ("score_not_a_number", "error", "row", "give a finite number"),
    ("score_out_of_range", "error", "row", "set the score_range of the data"),
    ("label_not_binary", "error", "row", "use the labels 0 and 1"),
    ("empty_text", "error", "row", "drop the pair"),
    ("near_empty_text", "error", "row", "drop the pair"),
    ("same_text_low_score", "error", "row", "a text is like itself: mend the score"),
    ("contradicting_labels", "error", "rows", "keep the label that is right"),
    ("one_class_only", "error", "set", "give pairs of both labels"),
    ("constant_score", "error", "set", "give scores that differ"),
)

KINDS: dict[str, Kind] = {kind[0]: Kind(*kind) for kind in _KINDS}
"""Every kind by its name, in the order in which reports list them."""


def defect(kind: str, detail: str, severity: Severity | None = None) -> Defect:
    """A defect of a kind, with the kind's severity unless another is given."""
    return Defect(kind, severity or KINDS[kind].severity, detail)
