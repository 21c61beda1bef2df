"""A bundle's graphs bound to buffers for one kind of frame: window, flows, long memory, scene."""
