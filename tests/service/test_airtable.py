"""The service on an Airtable table: row ids are texts, keys and logins are in a file beside the journal."""

from __future__ import annotations

from tests.conftest import World
from tests.service.server import Browser, ServiceServer


def test_a_client_is_registered_connected_served_changed_and_deleted(airtable_world: World) -> None:
    with ServiceServer(airtable_world) as server:
        made = server.register()
        row_id = made["client_id"]
        assert row_id.startswith("rec")
        assert made["redirect_uri"] == f"{server.url}/auth/callback"
        link = server.link().partition("?")[2]
        assert Browser(server).log_in(f"/oauth/login/{row_id}?{link}").status_code == 200
        token = server.call("GET", "/tokens/loc", server.admin).json()
        assert (token["client_id"], airtable_world.oauth.is_live(token["access_token"])) == (row_id, True)
        assert server.call("POST", "/tokens/refresh", server.admin, json={"client_id": row_id}).status_code == 200
        changed = server.call("PATCH", f"/clients/{row_id}", server.admin, json={"workspace_name": "Renamed"}).json()
        assert (changed["client"]["workspace_name"], changed["client"]["state"]) == ("Renamed", "valid")
        assert [row["client_id"] for row in server.call("GET", "/clients", server.admin).json()["clients"]] == [row_id]
        again = server.link()
        assert server.call("DELETE", f"/clients/{row_id}", server.admin).status_code == 200
        assert Browser(server).get(again).status_code == 403
