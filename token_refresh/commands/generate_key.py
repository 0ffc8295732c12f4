"""`generate-key`: a new encryption key on stdout."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

import crypto
from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.terminal.console import Console


def run(_arguments: argparse.Namespace, _environ: Mapping[str, str], _clock: Clock, console: Console) -> Iterable[Kind]:
    """Print a key. It is stored nowhere: without it, nothing that it sealed opens again."""
    key = crypto.generate_key()
    if console.as_json:
        console.object({"encryption_key": key})
    else:
        console.data(key)
    return ()
