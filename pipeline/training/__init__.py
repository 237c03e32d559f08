"""Training, by one worker here or by many under Ray Train, and the checkpoints it leaves."""
