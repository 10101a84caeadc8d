"""Events to bytes: one pure module a dialect."""
