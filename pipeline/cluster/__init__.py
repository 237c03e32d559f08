"""Ray for the length of a block: joined or started here, who may use it, and what its nodes have room for."""
