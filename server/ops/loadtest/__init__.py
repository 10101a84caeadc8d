"""The load test: many real clients in several processes, and whether each got every token in order."""
