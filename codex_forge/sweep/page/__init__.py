"""The leaderboard for people: an HTML page that opens anywhere, Markdown, lines for a terminal."""

from codex_forge.sweep.page.as_html import html
from codex_forge.sweep.page.as_markdown import markdown
from codex_forge.sweep.page.as_text import text

__all__ = ["html", "markdown", "text"]
