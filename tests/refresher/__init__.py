"""The refresher, room by room."""
