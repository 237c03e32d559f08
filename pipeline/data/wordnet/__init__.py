"""Relations of ImageNet's classes, by WordNet."""
