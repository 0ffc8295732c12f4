"""Encryption keys of a table: inspect, rotate, rebind."""
