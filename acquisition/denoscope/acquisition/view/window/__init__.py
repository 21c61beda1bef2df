"""A session as it is seen in napari: pictures, traces, bar and line, and the process of the window."""
