"""Training pairs from chunks, alias indexes and questions, split so that the test stays unseen."""
