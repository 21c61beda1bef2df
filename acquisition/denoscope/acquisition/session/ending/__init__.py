"""After the last frame: the backlog, skipped frames, the light budget, the report and its picture."""
