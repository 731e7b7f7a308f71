"""What of a model trains, and how: frozen layers, adapters, dropout."""
