"""From public addresses and users' folders to a listing of samples, and the bytes of each."""
