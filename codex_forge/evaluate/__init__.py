"""Retrieval on held-out questions: the topic rubric, IR measures, slices, latency."""
