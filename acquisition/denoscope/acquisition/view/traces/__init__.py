"""Traces of a running recording: read from its file as it grows, and drawn as they scroll."""
