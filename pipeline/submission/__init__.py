"""A command of this repository as a job of a Ray cluster: the code is sent, the log comes back."""
