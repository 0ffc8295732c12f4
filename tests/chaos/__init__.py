"""Proof by chaos that no refresh token is ever lost: random kills, and an operator who does anything."""
