"""What a stage minimises."""
