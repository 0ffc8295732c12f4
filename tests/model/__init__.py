"""A model of the rules that keep tokens, small enough that every order of a few faults can be tried."""
