"""One run: what is due is listed, refreshed in order, and written back."""
