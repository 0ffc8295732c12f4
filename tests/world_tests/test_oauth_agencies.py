"""The fake of HighLevel's endpoints for agencies refuses what HighLevel does, and notes what nobody should send."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import requests

from tests.world.oauth import OAuthServer

HEADERS = {"Version": "2021-07-28"}
QUERY = {"companyId": "comp", "appId": "app", "isInstalled": "true", "skip": "0", "limit": "100"}
FORM = {"companyId": "comp", "locationId": "loc"}


@pytest.fixture
def server(oauth: OAuthServer) -> OAuthServer:
    oauth.add_client("gohighlevel", "app-1", "secret")
    oauth.grant("gohighlevel", "app-1", location_id="comp", user_type="Company", company_id="comp")
    oauth.grant("gohighlevel", "app-1", location_id="other", company_id="comp")
    oauth.agencies.install("comp", "loc")
    return oauth


def bearer(server: OAuthServer, key: str = "comp") -> dict[str, str]:
    return {**HEADERS, "Authorization": f"Bearer {server.current_access(key)}"}


def listed(server: OAuthServer, headers: Mapping[str, str], **query: str) -> requests.Response:
    url = f"{server.url}/gohighlevel/oauth/installedLocations"
    return requests.get(url, {**QUERY, **query}, headers=dict(headers), timeout=10)


def minted(server: OAuthServer, headers: Mapping[str, str], **form: str) -> requests.Response:
    url = f"{server.url}/gohighlevel/oauth/locationToken"
    return requests.post(url, {**FORM, **form}, headers=dict(headers), timeout=10)


def test_an_agency_lists_its_locations_and_gets_a_pair_for_each(server: OAuthServer) -> None:
    assert [one["_id"] for one in listed(server, bearer(server)).json()["locations"]] == ["loc"]
    pair = minted(server, bearer(server)).json()
    assert (pair["locationId"], pair["refresh_token"]) == ("loc", server.current("loc"))
    assert server.violations == []


def test_who_is_no_agency_gets_nothing(server: OAuthServer) -> None:
    for headers in (HEADERS, bearer(server, "other")):
        assert (listed(server, headers).status_code, minted(server, headers).status_code) == (401, 401)
    assert minted(server, bearer(server), companyId="another").status_code == 401


def test_a_location_without_the_app_or_inactive_gets_none(server: OAuthServer) -> None:
    assert minted(server, bearer(server), locationId="elsewhere").status_code == 400
    server.agencies.inactive.add("loc")
    assert minted(server, bearer(server)).json()["message"] == "Location is not active"


def test_requests_without_version_or_with_other_members_are_violations(server: OAuthServer) -> None:
    headers = bearer(server)
    del headers["Version"]
    assert listed(server, headers).status_code == 400
    assert minted(server, bearer(server), more="1").status_code == 422
    assert len(server.violations) == 2


def test_the_hundred_and_first_call_in_ten_seconds_has_to_wait(server: OAuthServer) -> None:
    answers = [listed(server, bearer(server)).status_code for _ in range(101)]
    assert answers == [200] * 100 + [429]
