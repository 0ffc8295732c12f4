"""What programs import: valid tokens, logins stored, runs without cron."""
