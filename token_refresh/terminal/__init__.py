"""Everything that a person sees at a terminal, and what the process owes its surroundings."""
