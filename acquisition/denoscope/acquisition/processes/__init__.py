"""Start child processes and talk to them: messages, shared memory, signals, standard streams."""
