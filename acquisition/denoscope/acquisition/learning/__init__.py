"""Learning and judging: train a bundle, evaluate bundles, write one in another precision, build its engines."""
