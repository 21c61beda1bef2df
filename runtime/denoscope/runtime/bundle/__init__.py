"""Load trained models: bundles, checks of their graphs, and graphs compiled by a backend."""
