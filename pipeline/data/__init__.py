"""From public downloads to shards, an index, splits and stores."""
