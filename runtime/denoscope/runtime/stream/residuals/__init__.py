"""Compare denoised frames with the measured ones: what remains between them, and what follows from it.

- `guard`: findings where the difference is more than noise explains
- `deviation`: factor of the predicted deviations
- `slow_residual`: structure that all outputs lack, put back into them
"""
