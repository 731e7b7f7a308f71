"""Wordings of names as queries: which templates suit a chunk, and which of them a name gets."""

from __future__ import annotations

from collections.abc import Sequence

from codex_forge.config.pairs import SynthesisConfig, TemplateSet
from codex_forge.records import Chunk
from codex_forge.seeded import draw


class Templates:
    """The templates of a config, by language and category of the chunk that a query is for."""

    def __init__(self, config: SynthesisConfig, seed: int) -> None:
        """The seed decides which wordings a name gets when it gets fewer than there are."""
        self._config, self._seed = config, seed

    def of(self, chunks: Sequence[Chunk], position: int) -> tuple[str, ...]:
        """The templates for the chunk at a position.

        Of the sets that do not contradict the chunk's `language` field and type, the one that says
        most: both, then the language, then the category; of equals the first. `templates` are for
        chunks that no set is for. A set for `pt` is also for `pt-BR`, and not the reverse.
        """
        sets = self._config.template_sets
        if not sets:
            return self._config.templates  # without a look at the chunk, which may lie on disk
        chunk = chunks[position]
        suitable = [s for s in sets if _suits(s, chunk)]
        best = max(suitable, key=lambda s: (bool(s.language), bool(s.category)), default=None)
        return best.templates if best else self._config.templates

    def wordings(self, names: Sequence[str], templates: Sequence[str]) -> list[str]:
        """Templates over names: a first wording of each name, then a second, up to `per_name`."""
        rounds: list[list[str]] = [[] for _ in range(self._config.per_name)]
        for name in names:
            order = sorted(templates, key=lambda t: draw(self._seed, "wording", name, t))
            for texts, template in zip(rounds, order, strict=False):
                texts.append(template.replace("{name}", name))
        return list(dict.fromkeys(text for texts in rounds for text in texts))


def _suits(templates: TemplateSet, chunk: Chunk) -> bool:
    spoken = str(chunk.metadata.get("language") or "").casefold().replace("_", "-")
    wanted = templates.language.casefold().replace("_", "-")
    speaks = not wanted or spoken == wanted or spoken.startswith(f"{wanted}-")
    return speaks and templates.category in ("", chunk.chunk_type)
