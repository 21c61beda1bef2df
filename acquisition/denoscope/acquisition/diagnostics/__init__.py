"""Check this computer: `denoscope doctor`."""
