"""Speed against the limit of each hot path, in one run. Seconds belong to a machine, ratios travel."""
