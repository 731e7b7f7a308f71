"""Many trials of one config: planned, run one by one, and the best of them chosen honestly."""
