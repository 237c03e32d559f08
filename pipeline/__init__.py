"""Everything that touches disk, network, processes or a cluster."""
