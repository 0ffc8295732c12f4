"""Proof that many workers on many machines share one PostgreSQL table, and that nothing is lost or spent twice."""
