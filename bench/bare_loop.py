"""A bare threaded loop that posts the same forms and stores nothing: how fast requests itself can be.

Reads JSON from stdin: the token URL and the forms. Prints the seconds that posting took.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

THREADS = 16
_LOCAL = threading.local()


def post(url: str, form: dict[str, str]) -> str:
    """One refresh with this thread's session."""
    session = getattr(_LOCAL, "session", None)
    if session is None:
        session = _LOCAL.session = requests.Session()
    return str(session.post(url, data=form, timeout=30).json()["access_token"])


def main() -> None:
    """Post them all."""
    work = json.load(sys.stdin)
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda form: post(work["url"], form), work["forms"]))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
