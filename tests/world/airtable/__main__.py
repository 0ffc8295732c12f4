"""Run the fake by itself: `python -m tests.world.airtable --port 8123 --rows 1000`. It prints its URL, then serves."""

from __future__ import annotations

import argparse
import threading

from tests.world.airtable import AirtableServer
from tests.world.airtable.limits import PER_BASE


def main() -> None:
    """Serve one table of credentials until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.world.airtable", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--table", default="APISecrets", help="the table's name")
    parser.add_argument("--six", action="store_true", help="the required columns only")
    parser.add_argument("--rows", type=int, default=0, help="records to begin with")
    parser.add_argument("--unlimited", action="store_true", help="no limit on requests")
    options = parser.parse_args()
    with AirtableServer(port=options.port, requests_per_second=None if options.unlimited else PER_BASE) as server:
        table = (server.six_column_table if options.six else server.credentials_table)(options.table)
        table.add_many({"locationId": f"location-{number}"} for number in range(options.rows))
        print(f"{server.url} base={server.base_id} table={options.table} token={server.token}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
