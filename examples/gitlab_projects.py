"""Whose token this is, and the projects it may see, at GitLab or an instance of your own.

    GITLAB_URL=https://git.acme.example python -m examples.gitlab_projects LOCATION --provider gitlab-acme

The app needs the scope read_api.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from examples.api import Api, access_token, address, run

INSTANCE = "https://gitlab.com"
PAGE = 100  # the most that GitLab gives


def projects(api: Api) -> None:
    """Print the user on stderr, and one project a line."""
    print(f"as {api.get('user').json()['username']}", file=sys.stderr)
    for project in _pages(api, "projects"):
        print(f"{project['id']}\t{project['path_with_namespace']}\t{project['last_activity_at']}")


def _pages(api: Api, path: str) -> Iterator[dict[str, Any]]:
    """By keyset: GitLab refuses to count far into long lists."""
    query = {"membership": "true", "simple": "true", "pagination": "keyset", "order_by": "id", "per_page": PAGE}
    answer = api.get(path, query)
    yield from answer.json()
    while "next" in answer.links:  # RFC 8288
        answer = api.get(answer.links["next"]["url"])
        yield from answer.json()


def main() -> int:
    """Read the flags and do it."""
    parser = argparse.ArgumentParser(description="The projects that a GitLab token may see.")
    parser.add_argument("location", metavar="LOCATION")
    parser.add_argument("--provider", default="gitlab", help="the row's provider; gitlab where it is not given")
    given = parser.parse_args()
    base = address("GITLAB_URL", INSTANCE).rstrip("/") + "/api/v4"
    return run(lambda: projects(Api(base, access_token(given.location, given.provider))))


if __name__ == "__main__":
    sys.exit(main())
