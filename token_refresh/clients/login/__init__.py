"""Onboarding by login (RFC 6749 section 4.1, RFC 7636, RFC 8252, RFC 8628): no person copies a token any more.

`attempt` begins a login and knows which callback is its own; `loopback` serves a callback on this machine; `device`
asks the provider instead. `redemption` exchanges the code, through the journal, and has what it brought stored. What a
person is asked and shown is in `terminal/login.py`.
"""
