"""From shards to tensors: held in memory, decoded when asked for, or streamed."""
