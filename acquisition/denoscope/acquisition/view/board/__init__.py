"""Memory that a session and its window share, and the session's end of it: frames, status, wishes."""
