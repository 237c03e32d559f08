"""Shards where every node of a cluster finds them: uploaded to its storage, copied to the disk of each node."""
