"""One run of the program in this process, then its peak memory in bytes on stdout."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from token_refresh import commands as cli


def peak_of(process: int) -> int:
    """Bytes that a process has needed at most. Not getrusage: its peak includes that of whoever started the process."""
    status = Path(f"/proc/{process}/status").read_text()
    [kibibytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def main() -> int:
    """Run, and tell the peak."""
    code = cli.main([], os.environ)
    print(peak_of(os.getpid()))
    return code


if __name__ == "__main__":
    sys.exit(main())
