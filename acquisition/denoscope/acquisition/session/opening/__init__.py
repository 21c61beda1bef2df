"""Before the camera is armed: forecast, run folder, denoiser, source; whatever is refused is refused here."""
