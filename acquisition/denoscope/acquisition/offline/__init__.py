"""Denoise recorded movies, and the frames that a live session skipped."""
