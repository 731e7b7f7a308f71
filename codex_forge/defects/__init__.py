"""Defects of training data: more than fifty kinds, found in a stream, each with its cure."""

from codex_forge.defects.aliases import Aliases
from codex_forge.defects.finder import DefectFinder
from codex_forge.defects.kinds import KINDS, Defect, Kind, Severity

__all__ = ["KINDS", "Aliases", "Defect", "DefectFinder", "Kind", "Severity"]
