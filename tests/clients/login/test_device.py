"""Logins on another device (RFC 8628): asked at the interval that the provider wants, and ended as it says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.callers import Meanwhile
from tests.clients.login.person import LoggedIn, logged_in, set_up
from tests.conftest import World
from tests.world.http import Response
from tests.world.oauth import faults
from tests.world.program import Result

__all__ = ["logged_in"]

SLUG = "google"


class Device:
    """A login by device, and what happens while it waits: after so many requests, something."""

    def __init__(self, logged_in: LoggedIn) -> None:
        self.logged_in, self.world = logged_in, logged_in.world
        self.doings: dict[int, Callable[[], object]] = {}
        self.waits: list[float] = []
        self._at = self.world.clock.timestamp()
        set_up(self.world, SLUG)
        self.world.program.clock = Meanwhile(self.world.clock, self._act)

    def _act(self) -> None:
        now = self.world.clock.timestamp()
        self.waits.append(now - self._at)
        self._at = now
        self.doings.get(len(self.waits), lambda: None)()

    def __call__(self) -> Result:
        return self.logged_in(SLUG, argv=["--device"])

    def polls(self) -> int:
        return sum(b"device_code=" in request.body for request in self.logged_in.posts())


@pytest.fixture
def device(logged_in: LoggedIn) -> Device:
    """A login that nobody has agreed to yet."""
    return Device(logged_in)


def codes(world: World) -> list[Any]:
    return list(world.oauth._world.devices.codes.values())


def test_the_tokens_are_stored_once_the_person_has_agreed_elsewhere(device: Device) -> None:
    device.doings[3] = lambda: device.world.oauth.approve(SLUG)
    assert device().code == 0
    assert device.world.token_of("loc") == device.world.oauth.current("loc")
    assert (device.waits, device.polls()) == ([5, 5, 5], 3)
    said = "\n".join(device.logged_in.person.said)
    assert "/google/device" in said
    assert device.world.oauth.violations == []
    assert device.world.journalled() == []


def test_slow_down_is_obeyed_with_five_seconds_more_each_time(device: Device) -> None:
    def hasten() -> None:  # as if it had been asked three seconds ago
        for code in codes(device.world):
            code.asked_at = device.world.clock.timestamp() - 3

    device.doings |= {2: hasten, 4: lambda: device.world.oauth.approve(SLUG)}
    assert device().code == 0
    assert device.waits == [5, 5, 10, 10]


def test_a_no_ends_it_with_the_providers_word(device: Device) -> None:
    device.doings[2] = lambda: device.world.oauth.deny(SLUG)
    result = device()
    assert (result.code, "access_denied" in result.err) == (1, True)
    assert (device.polls(), device.world.rows(), device.world.journalled()) == (2, {}, [])


def test_a_code_that_expires_ends_it(device: Device) -> None:
    def expire() -> None:
        for code in codes(device.world):
            code.expires_at = 0

    device.doings[2] = expire
    result = device()
    assert (result.code, "expired_token" in result.err) == (1, True)


def test_nobody_is_waited_for_longer_than_ten_minutes(device: Device) -> None:
    def forget() -> None:
        for code in codes(device.world):
            code.expires_at = math.inf

    device.doings[1] = forget
    result = device()
    assert (result.code, "nobody agreed in time" in result.err) == (1, True)
    assert sum(device.waits) <= 600
    assert device.world.journalled() == []


def test_an_answer_that_is_lost_is_asked_for_again_with_more_patience(device: Device) -> None:
    device.world.oauth.fail(faults.status(503), times=2, when=lambda call: b"device_code" in call.request.body)
    device.doings[4] = lambda: device.world.oauth.approve(SLUG)
    assert device().code == 0
    assert device.waits == [5, 10, 15, 15]


@pytest.mark.parametrize("is_json", [True, False])
def test_a_provider_that_begins_none_is_quoted_without_the_secret(
    logged_in: LoggedIn, is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(logged_in)
    body = b'{"error": "unauthorized_client", "error_description": "google secret"}' if is_json else b"<html>no</html>"
    monkeypatch.setattr(
        device.world.oauth._world, "_device", lambda *_: Response(400, body, {"Content-Type": "application/json"})
    )
    result = device()
    assert (result.code, "does not begin a login by device" in result.err) == (1, True)
    assert "google secret" not in result.said
    assert ("unauthorized_client" in result.err) is is_json


def test_a_page_under_googles_earlier_name_is_shown_also_where_none_holds_the_code(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = device.world.oauth._world
    answered = fake._device

    def earlier(*given: Any) -> Response:
        content = json.loads(answered(*given).body)
        del content["verification_uri_complete"]
        return Response.of_json(200, {**content, "verification_url": content.pop("verification_uri")})

    monkeypatch.setattr(fake, "_device", earlier)
    device.doings[1] = lambda: device.world.oauth.approve(SLUG)
    assert device().code == 0
    [said] = device.logged_in.person.said
    assert re.fullmatch(r"On any device open http://\S+/google/device and enter this code: [0-9A-F]{8}", said)


def test_ctrl_c_while_nobody_has_agreed_ends_it_with_exit_4(device: Device) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    device.doings[2] = interrupt
    assert device().code == 4
    assert device.world.journalled() == []


def test_a_provider_without_such_a_login_is_named_before_anything_is_asked(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "xero")
    result = logged_in("xero", argv=["--device"])
    assert (result.code, "no login by device" in result.err) == (2, True)
    assert logged_in.person.asked == []
