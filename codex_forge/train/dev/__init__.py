"""How good the model is on dev data while it trains."""
