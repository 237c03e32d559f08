"""Speed against the limit of each hot path, side by side in one run. Not tests: seconds belong to a machine, ratios travel."""
