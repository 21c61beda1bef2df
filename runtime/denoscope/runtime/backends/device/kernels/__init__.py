"""Kernels for NVIDIA GPUs, made from a bundle's graphs: fused arithmetic and tensor-core convolutions."""
