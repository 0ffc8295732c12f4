"""What acts after a run: messages, webhooks and pings for people, metrics and history for their machines."""
