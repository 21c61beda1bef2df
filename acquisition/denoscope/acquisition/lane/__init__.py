"""The denoising lane of a session: a bounded queue, what it drops and why, and how long frames take."""
