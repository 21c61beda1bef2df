"""The latency benchmark behind ``denoscope bench``.

Each case runs in a separate process (`_worker`): a camera with a fixed clock (`_play`) hands a synthetic
movie (`_scene`) to the lane that a live session uses, and `_statistics` sums the timeline up.
"""
