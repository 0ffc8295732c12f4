"""Strict fakes of many providers' OAuth 2.0 endpoints, over HTTP on loopback.

`OAuthServer` is the server, `Dialect` describes a provider, `faults` holds what can go wrong.
"""

from tests.world.oauth import faults
from tests.world.oauth.answered import DIALECTS
from tests.world.oauth.dialects import Dialect
from tests.world.oauth.server import OAuthServer
from tests.world.oauth.tokens import AccessToken, Grant, RefreshToken

__all__ = ["DIALECTS", "AccessToken", "Dialect", "Grant", "OAuthServer", "RefreshToken", "faults"]
