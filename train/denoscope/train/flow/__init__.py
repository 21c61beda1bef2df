"""The flow network: motion between two noisy frames, its training and refinement."""
