"""The whole corpus as vectors; only what is new or changed is encoded."""
