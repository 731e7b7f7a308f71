"""Fine-tuning: pairs in, a model folder out, with its history and its card."""
