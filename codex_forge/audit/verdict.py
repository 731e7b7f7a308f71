"""Why an audit fails: too much is cut, lost or wrong, or anything at all leaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_forge.audit.tally import Tally
from codex_forge.config.sections import AuditConfig
from codex_forge.tokens import LengthAudit


def reasons(
    config: AuditConfig,
    audits: Mapping[str, LengthAudit],
    tally: Tally,
    evidence: Mapping[str, Any],
) -> list[str]:
    """The reasons for the verdict `fail`; none when the audit passes."""
    found = []
    most = config.max_truncated_share
    for kind, audit in audits.items():
        if audit.truncated_share > most:
            found.append(
                f"{audit.truncated} of {audit.texts} {kind} texts are cut at {audit.limit} "
                f"tokens ({audit.truncated_share:.1%}, allowed {most:.1%})"
            )
    most = config.max_evidence_lost_share
    if evidence["share"] > most:
        found.append(
            f"{evidence['lost']} of {evidence['pairs']} pairs have their expected topics past the "
            f"cut ({evidence['share']:.1%}, allowed {most:.1%})"
        )
    if tally.rows_with_leaks:
        found.append(f"{tally.rows_with_leaks} train rows leak what is held out")
    most = config.max_defect_share
    if tally.rows_with_errors > most * tally.rows:
        found.append(
            f"{tally.rows_with_errors} of {tally.rows} pairs have a defect (allowed {most:.1%})"
        )
    found += [f"of the scored pairs, {each}" for each in tally.of_all_errors]
    return found
