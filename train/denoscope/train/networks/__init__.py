"""Networks that denoise: `live`, and the two published methods."""
