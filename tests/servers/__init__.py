"""Real servers that the tests start, use and end by themselves."""
