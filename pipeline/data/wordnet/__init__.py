"""Which classes of ImageNet are related, by WordNet."""
