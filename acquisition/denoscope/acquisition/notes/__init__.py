"""Sentences for the user about the movie itself: noise, unusual frames, missing pixels."""
