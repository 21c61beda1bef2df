"""Requests to a running session and news from it: by program, terminal and files, without waiting for anyone."""
