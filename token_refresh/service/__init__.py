"""The HTTP service and its page: thin, with no rule of its own. `library` and `access` do the work."""
