"""A process of its own that sends a message by Apprise: address and message come on standard input, and exit code 0
says that it was accepted. It imports nothing of ours."""

from __future__ import annotations

import json
import os
import sys

import apprise


def main() -> None:
    """Send it; Apprise itself says nothing about why it was not accepted."""
    given = json.load(sys.stdin)
    os.environ.update({name: value for name, value in given["environ"].items() if value})
    target = apprise.Apprise()
    is_known = target.add(given["url"])
    sys.exit(not (is_known and target.notify(given["text"], given["title"], body_format=apprise.NotifyFormat.TEXT)))


if __name__ == "__main__":
    main()
