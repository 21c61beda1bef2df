"""Denoise the frames of a session, in this process or in another."""
