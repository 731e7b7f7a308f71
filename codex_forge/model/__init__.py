"""Embedding models: find them (torch-free), load them, encode texts."""
