"""All of token-refresh but `crypto` and the providers, in one package: no name collides with a host program's."""
