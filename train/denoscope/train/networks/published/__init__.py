"""The published methods UMVD and STS-UVD."""
