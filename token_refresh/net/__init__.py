"""One bounded request, TLS, and which hosts may be called."""
