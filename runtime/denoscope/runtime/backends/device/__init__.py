"""Run graphs on NVIDIA GPUs: buffers, streams, CUDA and kernels."""
