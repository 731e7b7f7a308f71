"""codex-forge: fine-tune embedding models on a domain corpus, and prove that it helped."""

__version__ = "0.1.0"
