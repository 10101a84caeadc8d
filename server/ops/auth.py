"""Who shows which credentials; and whether a server that the world can reach asks for any."""

import ipaddress
import time
from collections.abc import Callable

from server.callers import Caller
from server.errors import Unauthorized
from server.ops.keys import PREFIX, KeyRing
from server.settings import Settings, SettingsError


class Auth:
    """The credentials that the settings know; raise `SettingsError` if a file of them is bad.

    Without any, `asks` is false and everybody may do everything.
    """

    def __init__(self, settings: Settings) -> None:
        self.asks = asks(settings)
        self._keys = KeyRing(settings.keys, settings.keys_file)
        self._find_token = _token_reader(settings)

    def caller(self, credential: str) -> Caller:
        """Return who shows an API key or a JWT; raise `Unauthorized`."""
        if not credential.isascii():
            raise Unauthorized()
        if credential.startswith(PREFIX):
            found = self._keys.find(credential)
        else:
            found = self._find_token(credential)
        if found is None:
            raise Unauthorized()
        found.demand_known()
        return found

    def holds(self, caller: Caller) -> bool:
        """Say whether what a caller has shown is still good."""
        return caller.until > time.time() and (not caller.proof or self._keys.holds(caller))


def _token_reader(settings: Settings) -> Callable[[str], Caller | None]:
    if not (settings.jwt_secret or settings.jwks):
        return lambda token: None
    # Only where it is needed: what it imports takes a tenth of a second.
    from server.ops.jwts import Tokens

    return Tokens(settings.jwt_secret, settings.jwks, settings.jwt_issuer, settings.jwt_audience).find


def asks(settings: Settings) -> bool:
    """Say whether these settings make anybody say who they are."""
    return bool(settings.keys or settings.keys_file or settings.jwt_secret or settings.jwks)


def demand_identity(settings: Settings) -> None:
    """Raise `SettingsError` if the world would reach a server that asks nobody who they are.

    So does a set of credentials that cannot be read.
    """
    Auth(settings)
    if not (asks(settings) or settings.insecure or is_loopback(settings.host)):
        raise SettingsError(
            f"host: {settings.host} can be reached from outside, and anybody may do anything: "
            "set keys, keys_file, jwks or jwt_secret (or --insecure)"
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
