"""Microsoft (Entra ID): one `error` covers many causes; the AADSTS number says which.

Source: learn.microsoft.com/entra/identity-platform/reference-error-codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.base import Provider, Verdict, error_code

_NUMBER = re.compile(r"AADSTS(\d{4,8})")

# Directories, agents or tenants that are busy: the old refresh token stays usable in any case.
_PASSING = frozenset({50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090, 90091, 40010, 70012, 80001, 80002, 80005})
# Wrong, expired or missing secret; the app is gone or disabled. Secrets expire after 6 to 24 months.
_CLIENT = frozenset({7000215, 7000222, 70002, 7000218, 700016, 700011, 70001, 7000112})
# Unknown tenant, an endpoint that does not fit, a bad scope, a missing parameter.
_ROW = frozenset({90002, 50194, 9001023, 70011, 28002, 900144})
# Revoked, idle too long, a second factor or an administrator's rule in the way: a person has to sign in.
_DEAD = frozenset(
    {
        *(65001, 50173, 70000, 70008, 700082, 700084, 70043, 50074, 50076, 50078, 50079, 53000, 53003, 530032),
        *(50057, 50034, 50020, 50105, 50085, 50089, 50132, 50133),
    }
)
_LOOP = 50196  # the same request too often; it comes as `invalid_grant`, and a new consent would not help
_LOGIN = ("interaction_required", "consent_required", "login_required")


class Microsoft(Provider):
    """See `Provider`. Old refresh tokens are not revoked by a refresh, so a lost answer can be asked for again."""

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`."""
        numbers, code = _numbers(content), error_code(content)
        if numbers & _PASSING or _LOOP in numbers:
            return Verdict.NOT_ACTED
        # A dead token may be reported as "70002, error validating credentials" and the reason behind it.
        if numbers & _CLIENT and code != "invalid_grant":
            return Verdict.CLIENT_REFUSED
        if numbers & _ROW:
            return Verdict.REQUEST_REFUSED
        if numbers & _DEAD or code in _LOGIN:
            return Verdict.DEAD_GRANT
        return super().judge(status, content)

    def advise(self, verdict: Verdict, content: Mapping[str, Any]) -> str | None:
        """See `Provider.advise`."""
        numbers = _numbers(content)
        if 7000222 in numbers:
            return "The client secret has expired: create a new one in the Entra admin centre and save it."
        if numbers & {90002, 50194, 9001023}:
            return "Write the right tenant into the row's provider_params."
        if _LOOP in numbers:
            return "Microsoft was asked too often: run less often. A new login does not help."
        return super().advise(verdict, content)


def _numbers(content: Mapping[str, Any]) -> set[int]:
    listed = content.get("error_codes")
    numbers = {code for code in listed if isinstance(code, int)} if isinstance(listed, list) else set()
    description = content.get("error_description")
    if isinstance(description, str):
        numbers |= {int(number) for number in _NUMBER.findall(description)}
    return numbers
