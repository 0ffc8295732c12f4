"""The pages, and what writes the parts of them that are made of the catalogue."""
