"""The audit of pairs before money is spent: lengths, evidence, defects, leaks, and a verdict."""
