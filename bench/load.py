"""64 connections that ask one after the other: what a caller waits. Read as JSON on stdin, told as JSON on stdout.

{"port": 8002, "headers": {...}, "paths": [[...], ...]}: the paths of each connection
{"seconds": 1.2, "waits": [...], "statuses": {"200": 6400}}
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any


async def ask(port: int, headers: str, paths: list[str], waits: list[float], statuses: Counter[str]) -> None:
    """One connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path in paths:
        start = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        waits.append(time.perf_counter() - start)
        statuses[head.split(" ", 2)[1]] += 1
    writer.close()


async def load(asked: dict[str, Any]) -> dict[str, Any]:
    """All of them at once."""
    waits: list[float] = []
    statuses: Counter[str] = Counter()
    headers = "".join(f"{name}: {value}\r\n" for name, value in asked["headers"].items())
    start = time.perf_counter()
    await asyncio.gather(*(ask(asked["port"], headers, paths, waits, statuses) for paths in asked["paths"]))
    return {"seconds": time.perf_counter() - start, "waits": waits, "statuses": statuses}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(json.load(sys.stdin)))))
