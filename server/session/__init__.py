"""The heart: the log, its producer, its viewers, and the Redis that keeps it."""
