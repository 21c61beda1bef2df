"""Triggers: what a denoised frame must show, and what is done then."""
