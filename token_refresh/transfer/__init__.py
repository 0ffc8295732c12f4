"""Rows out of and into a table: exports, imports, layouts of earlier programs."""
