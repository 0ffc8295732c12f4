"""What all parts share. It does no I/O and imports nothing of ours."""
