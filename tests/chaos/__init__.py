"""Faults against real processes, and a checker that judges from recorded histories alone."""
