"""The batch: what is due, in which order, what follows from each answer, and how nothing is lost on the way."""
