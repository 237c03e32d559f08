"""From samples to WebDataset tars with an index and a manifest, and back to the bytes of a sample."""
