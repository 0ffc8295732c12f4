"""Nothing is lost: what is on its way, on the disk before the next step. Knows no store."""
