"""Record live: source, raw recording and denoising lane, with control, report and metrics.

`live` runs a recording from beginning to end, in three rooms that follow one another:

- `opening`: forecast of the disk, run folder, and everything else that is opened before the camera is armed
- `recording`: the session's threads, and what looks at its frames while they come
- `ending`: skipped frames, the light budget, report and picture

`supervisor` watches over the recording in between; `running` is a recording beside a loop of the user's program.
"""
