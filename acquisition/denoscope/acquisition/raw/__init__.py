"""Write and read the raw recording: pages, sidecar, disk."""
