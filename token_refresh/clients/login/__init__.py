"""Onboarding by login (RFC 6749 section 4.1, RFC 7636, RFC 8252, RFC 8628): no person copies a token any more.

An `attempt` is what waits for a person: its address and what it accepts as the callback. A callback comes by
`loopback` or by `paste`; `device` asks the provider instead. `redemption` exchanges the code, through the journal.
"""
