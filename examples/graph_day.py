"""A day with Microsoft Graph: the next 24 hours of the calendar, the unread mail sorted, a draft of an answer.

    python -m examples.graph_day calendar|triage|draft LOCATION

The app needs the delegated permissions Calendars.Read and Mail.ReadWrite (Mail.Read where no draft is made).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from examples.api import Api, access_token, address, run

GRAPH = "https://graph.microsoft.com/v1.0"
PAGE = 50
BULK = ("no-reply", "noreply", "newsletter", "notifications")


def calendar(api: Api, now: datetime) -> None:
    """Events of the next 24 hours, in UTC, soonest first."""
    span = {"startDateTime": now.isoformat(), "endDateTime": (now + timedelta(hours=24)).isoformat()}
    query = {**span, "$select": "subject,start,end", "$orderby": "start/dateTime", "$top": PAGE}
    for event in _pages(api, "me/calendarView", query):
        print(f"{event['start']['dateTime'][:16]}  {event['end']['dateTime'][11:16]}  {event['subject']}")


def triage(api: Api, _: datetime) -> None:
    """Unread mail: what is marked as important first, what machines send last."""
    query = {"$filter": "isRead eq false", "$select": "subject,from,importance,flag", "$top": PAGE}
    unread = list(_pages(api, "me/mailFolders/inbox/messages", query))
    for message in sorted(unread, key=_rank):  # stable: in each group as it came
        print(f"{('now', 'today', 'later')[_rank(message)]:6} {_sender(message)}  {message['subject']}")


def draft(api: Api, _: datetime) -> None:
    """A draft in the Drafts folder that names who waits for an answer; nothing is sent."""
    query = {"$filter": "isRead eq false", "$select": "subject,from,importance,flag", "$top": PAGE}
    waiting = [message for message in _pages(api, "me/mailFolders/inbox/messages", query) if _rank(message) == 0]
    lines = [f"- {_sender(message)}: {message['subject']}" for message in waiting] or ["- nobody"]
    body = {"contentType": "Text", "content": "\n".join(["Waiting for an answer:", *lines])}
    made = api.post("me/messages", {"subject": "Today", "body": body, "toRecipients": []}).json()
    print(f"draft {made['id']}")


def _pages(api: Api, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    page = api.get(path, query).json()
    yield from page["value"]
    while "@odata.nextLink" in page:  # holds the whole query
        page = api.get(page["@odata.nextLink"]).json()
        yield from page["value"]


def _rank(message: dict[str, Any]) -> int:
    if message["importance"] == "high" or message.get("flag", {}).get("flagStatus") == "flagged":
        return 0
    return 2 if any(word in _sender(message).lower() for word in BULK) else 1


def _sender(message: dict[str, Any]) -> str:
    return str(message.get("from", {}).get("emailAddress", {}).get("address", "unknown"))


def main() -> int:
    """Read the flags and do it."""
    parser = argparse.ArgumentParser(description="A day with Microsoft Graph.")
    acts = {"calendar": calendar, "triage": triage, "draft": draft}
    parser.add_argument("act", choices=acts)
    parser.add_argument("location", metavar="LOCATION")
    given = parser.parse_args()
    now = datetime.now(UTC).replace(microsecond=0)
    base = address("GRAPH_URL", GRAPH)
    return run(lambda: acts[given.act](Api(base, access_token(given.location, "microsoft")), now))


if __name__ == "__main__":
    sys.exit(main())
