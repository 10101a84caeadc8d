"""Measurements: the core's promises (`figures`), and us beside our peers on the same work (`run`)."""
