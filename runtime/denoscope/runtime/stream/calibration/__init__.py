"""Calibrate a stream: estimate noise and scanner artefacts of a movie from its frames.

- `schedule`: times at which the noise model is estimated
- `intake`: frames that wait until it is known
- `certain`: whether few frames are enough
- `learned`: the estimate itself, or the noise model that was given
"""
