"""What a training says: history, pictures, summary, model card, and services that listen."""
