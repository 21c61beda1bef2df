"""The training loop of all methods: start, checkpoint, log, report."""
