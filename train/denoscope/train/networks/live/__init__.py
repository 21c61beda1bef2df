"""The `live` network: layers, settings, training batches, training task."""
