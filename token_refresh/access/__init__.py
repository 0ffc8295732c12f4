"""Who may use the HTTP service: keys of programs, one-time links of customers, logins that have begun."""
