"""Facts of this machine, files and storage, and a stage's progress and ending."""
