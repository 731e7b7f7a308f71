"""Baseline against candidate on the same questions, with uncertainty, for people to decide by."""
