"""Denoise beside an acquisition that another program runs: pycromanager and pymmcore-plus."""
