"""What acts after a run."""
