"""Readers, one module a format; `movies.opening` chooses the one for a file."""
