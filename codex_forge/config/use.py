"""The section `use` of a run's YAML: what it reads of another run instead of making its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from codex_forge.config.section import Section
from codex_forge.errors import ConfigError

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,148}[A-Za-z0-9]$")]


class UseConfig(Section):
    """Artifacts of another run of this store that this one reads instead of making its own."""

    pairs: _Name | None = None
    """Name of a pairs artifact; this run's own when not given."""
    audit: _Name | None = None
    """Name of an audit artifact; this run's own when not given."""
    base: _Name | None = None
    """Name of a run whose vectors of the base model are read; this run's own when not given."""
    sweep: _Name | None = None
    """Name of the run that this is a trial of. `sweep` sets it, and replaces nothing that has
    another here."""

    def refuse_to_make(self, kind: Literal["pairs", "audit", "base"]) -> None:
        """Whoever reads another run's artifact does not write it.

        Raises:
            ConfigError: it is another run's.
        """
        name = getattr(self, kind)
        if name is not None:
            raise ConfigError(
                f"this run reads the {_CALLED[kind]} of {name!r} and makes none",
                where=f"use.{kind}",
                do="run the mode with the config of that run, or leave the key out",
            )


_CALLED = {"pairs": "pairs", "audit": "audit", "base": "base model's vectors"}
