"""Training under Ray Train, and the checkpoints it leaves."""
