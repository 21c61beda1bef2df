"""Measure what light and scanner do to whole frames and lines, and correct it."""
