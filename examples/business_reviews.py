"""Every review of a Google Business Profile location, as CSV; a summary on stderr.

    python -m examples.business_reviews LOCATION accounts/1/locations/2

The app needs the scope https://www.googleapis.com/auth/business.manage, and Google's leave to use the API.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from typing import Any

from examples.api import Api, access_token, address, run

API = "https://mybusiness.googleapis.com/v4"
PAGE = 50  # the most that Google gives
STARS = {"ONE": 1, "TWO": 2, "THREE": 3, "FOUR": 4, "FIVE": 5}


def fetch(api: Api, name: str) -> None:
    """Print all reviews, the last changed first."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["review", "stars", "written", "changed", "reviewer", "answered", "comment"])
    stars: list[int] = []
    unanswered = 0
    for review in _reviews(api, name):
        stars.append(STARS.get(review["starRating"], 0))
        unanswered += "reviewReply" not in review
        writer.writerow(map(_inert, _cells(review, stars[-1])))
    mean = sum(stars) / len(stars) if stars else 0.0
    print(f"{len(stars)} reviews, {mean:.2f} stars on average, {unanswered} without an answer", file=sys.stderr)


def _reviews(api: Api, name: str) -> Iterator[dict[str, Any]]:
    query: dict[str, Any] = {"pageSize": PAGE}
    while True:
        page = api.get(f"{name}/reviews", query).json()
        yield from page.get("reviews", [])  # Google leaves empty lists out
        if not page.get("nextPageToken"):
            return
        query["pageToken"] = page["nextPageToken"]


def _cells(review: dict[str, Any], stars: int) -> list[str]:
    reviewer = review.get("reviewer", {})
    return [
        review["reviewId"],
        str(stars),
        review["createTime"],
        review["updateTime"],
        "" if reviewer.get("isAnonymous") else reviewer.get("displayName", ""),
        "yes" if "reviewReply" in review else "no",
        review.get("comment", ""),
    ]


def _inert(cell: str) -> str:
    """Strangers write reviews: no spreadsheet may take one for a formula."""
    return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def main() -> int:
    """Read the flags and do it."""
    parser = argparse.ArgumentParser(description="Every review of a Google Business Profile location.")
    parser.add_argument("location", metavar="LOCATION", help="as this program's table names it")
    parser.add_argument("name", metavar="NAME", help="as Google names it: accounts/…/locations/…")
    given = parser.parse_args()
    base = address("BUSINESS_PROFILE_URL", API)
    return run(lambda: fetch(Api(base, access_token(given.location, "google")), given.name.strip("/")))


if __name__ == "__main__":
    sys.exit(main())
