"""The certified provider starts, rotates, refuses what RFC 6749 refuses, and is silent about itself."""

from urllib.parse import quote

import pytest
import requests

from tests.world import oidc_provider as world
from tests.world.oidc_provider import OIDCClient, OIDCProvider, OIDCProviderError, oidc_provider


@pytest.fixture(scope="module")
def provider():
    with oidc_provider(refresh_tokens=5) as running:
        yield running


def refresh(provider: OIDCProvider, client: OIDCClient, token: str, **changed: str) -> requests.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    auth = None
    if client.token_endpoint_auth_method == "client_secret_post":
        form |= {"client_id": client.client_id, "client_secret": client.client_secret}
    else:
        auth = (quote(client.client_id, safe=""), quote(client.client_secret, safe=""))
    with requests.Session() as session:
        session.trust_env = False
        return session.post(provider.token_endpoint, data=form | changed, auth=auth, timeout=10)


def whoami(provider: OIDCProvider, access_token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {access_token}"}
    return requests.get(provider.userinfo_endpoint, headers=headers, timeout=10)


@pytest.mark.parametrize("method", ["basic", "post"])
def test_a_refresh_brings_a_new_pair_that_works(provider, method):
    client = getattr(provider, method)
    answer = refresh(provider, client, client.refresh_tokens[0])
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    pair = answer.json()
    assert pair["expires_in"] == 3600
    assert pair["token_type"] == "Bearer"
    assert pair["refresh_token"] != client.refresh_tokens[0]
    assert whoami(provider, pair["access_token"]).json() == {"sub": "account-1"}
    assert refresh(provider, client, pair["refresh_token"]).status_code == 200


def test_the_old_token_is_refused_after_rotation_and_its_family_dies(provider):
    client, token = provider.post, provider.post.refresh_tokens[1]
    newer = refresh(provider, client, token).json()
    again = refresh(provider, client, token)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert refresh(provider, client, newer["refresh_token"]).json()["error"] == "invalid_grant"
    assert whoami(provider, newer["access_token"]).status_code == 401


def test_basic_credentials_that_were_not_form_encoded_are_refused(provider):
    client = provider.basic
    form = {"grant_type": "refresh_token", "refresh_token": client.refresh_tokens[2]}
    auth = (client.client_id, client.client_secret)
    answer = requests.post(provider.token_endpoint, data=form, auth=auth, timeout=10)
    assert answer.status_code in (400, 401)
    assert refresh(provider, client, client.refresh_tokens[2]).status_code == 200


def test_a_wrong_secret_does_not_consume_the_token(provider):
    client, token = provider.post, provider.post.refresh_tokens[3]
    wrong = refresh(provider, client, token, client_secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert refresh(provider, client, token).status_code == 200


def test_each_grant_stands_alone(provider):
    assert len({*provider.basic.refresh_tokens, *provider.post.refresh_tokens}) == 10


@pytest.mark.long
def test_it_prints_nothing_but_its_line_and_ends_with_stdin(capfd):
    with oidc_provider() as running:
        assert refresh(running, running.post, running.post.refresh_tokens[0]).status_code == 200
        assert refresh(running, running.post, "nonsense").status_code == 400
    assert capfd.readouterr() == ("", "")
    with pytest.raises(requests.ConnectionError):
        requests.get(running.url, timeout=2)


def test_missing_node_modules_are_reported_with_the_make_target(tmp_path):
    with pytest.raises(OIDCProviderError, match="make node"), oidc_provider(folder=tmp_path):
        pass


def test_no_node_is_reported_with_the_make_target(monkeypatch):
    monkeypatch.setattr(world, "_candidates", lambda: iter(()))
    with pytest.raises(OIDCProviderError, match=r"none is installed.*make node"):
        world.find_node()


def test_a_supported_node_is_preferred_and_an_old_one_refused(monkeypatch):
    majors = {"/old/node": 20, "/new/node": 24}
    monkeypatch.setattr(world, "_major", majors.get)
    monkeypatch.setattr(world, "_candidates", lambda: iter(majors))
    assert world.find_node() == "/new/node"
    majors.update({"/old/node": 18, "/new/node": 16})
    with pytest.raises(OIDCProviderError, match="too old"):
        world.find_node()


def test_the_lock_names_no_registry_and_keeps_its_hashes():
    lock = (world.FOLDER / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == lock.count('"node_modules/') > 10
