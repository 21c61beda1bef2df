"""While frames come: the threads of the session, what looks at denoised frames, numbers and events."""
