"""Movies to train on, held in memory or read from disk as needed."""
