"""Turn a live movie into a denoised one.

`stream` takes a frame and returns the outputs that became due; `recorded` makes a stream for a recorded movie. A frame
is held until the noise is known (`calibration`), goes through the ring (`passage`, `ring`), is denoised (`outputs`,
with what `binder` bound to its shape and dtype) and is compared with what was measured (`residuals`).
"""
