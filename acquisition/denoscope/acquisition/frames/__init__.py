"""Denoised frames for the user's own program: a function that is called with each, or a loop over them."""
