"""What this machine, its files and its memory are like, and how a stage tells of its work and ends."""
