"""Docks of the napari plugin, for live recordings and recorded movies, and the processes that they start."""
