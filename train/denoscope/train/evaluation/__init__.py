"""Measure how good denoised movies are, with and without known truth."""
