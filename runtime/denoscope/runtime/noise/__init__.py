"""Measure and describe the camera's noise: intensity model, correlation, saturation, calibration maps."""
