"""Folders of files as one movie: which files belong to it, in which order, and what their names say."""
