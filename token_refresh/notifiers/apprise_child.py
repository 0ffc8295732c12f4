"""A process of its own that sends messages by Apprise: addresses and messages come on standard input, and which of them
were accepted goes to standard output. It imports nothing of ours."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import apprise


def main() -> None:
    """Send all at the same time, and end in time, whatever hangs."""
    given = json.load(sys.stdin)
    end = time.monotonic() + given["seconds"]
    os.environ.update({name: value for name, value in given["environ"].items() if value})
    accepted: list[str] = []

    def send(key: str, url: str, title: str, text: str) -> None:
        target = apprise.Apprise()
        if target.add(url) and target.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT):
            accepted.append(key)

    threads = [threading.Thread(target=send, args=message, daemon=True) for message in given["messages"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    print(json.dumps(accepted), flush=True)  # noqa: T201 - to whoever started it
    os._exit(0)  # a thread that hangs is not waited for


if __name__ == "__main__":
    main()
