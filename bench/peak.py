"""One run of the program in this process, as cron starts it, then its peak memory in bytes on stdout."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from token_manager import main as run
from token_refresh.terminal.process import collect_seldom


def peak_of(process: int) -> int:
    """Bytes that a process has needed at most. Not getrusage: its peak includes that of whoever started the process."""
    status = Path(f"/proc/{process}/status").read_text()
    [kibibytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def main() -> int:
    """Run, and tell the peak."""
    collect_seldom()
    code = run([], os.environ)
    print(peak_of(os.getpid()))
    return code


if __name__ == "__main__":
    sys.exit(main())
