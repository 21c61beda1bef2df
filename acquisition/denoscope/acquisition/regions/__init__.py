"""Regions of a movie, for example cells: where they come from, and their traces from frame to frame."""
