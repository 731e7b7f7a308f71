"""The leaderboard for people: one HTML page that opens anywhere, and Markdown for a ticket."""

from codex_forge.sweep.page.as_html import html
from codex_forge.sweep.page.as_markdown import markdown

__all__ = ["html", "markdown"]
