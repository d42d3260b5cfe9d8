"""Which profile a request has: the shipped ones, an operator's own, and the order of choice.

The caller's key decides, else the Host, else the model's alias, else the path.
"""

from collections.abc import Mapping

from edge.openai.profile import Profile
from edge.profile_data import host_name, shipped_profiles
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

STRICT_PREFIX = "/v1"
LENIENT_PREFIXES = ("/api/v1", "")
"""Where other vendors' clients look for the same paths; the last is no prefix at all."""


class ProfileBook:
    """All profiles by name, and the Hosts that are mapped to one."""

    def __init__(self, own: Mapping[str, Profile], hosts: Mapping[str, str]) -> None:
        self._profiles = {**shipped_profiles(), **own}
        self._hosts = dict(hosts)

    @property
    def names(self) -> frozenset[str]:
        """Every profile there is."""
        return frozenset(self._profiles)

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """All of them by name."""
        return self._profiles

    def choose(
        self, key: str | None, host: str, alias: str | None, path: str
    ) -> tuple[str, Profile]:
        """The name of the profile that a request has, and the profile.

        `key` and `alias` are names or None; `host` is the Host header's value. Raises ServiceError
        for a key whose entry names no known profile.
        """
        name = key or self._hosts.get(host_name(host)) or alias or _profile_of_path(path)
        profile = self._profiles.get(name)
        if profile is None:
            raise ServiceError(
                errors_pb2.ERROR_REASON_ENGINE_FAILURE,
                f"The server's configuration is incomplete: no profile is named `{name}`.",
            )
        return name, profile


def _profile_of_path(path: str) -> str:
    return "openai" if path.startswith(f"{STRICT_PREFIX}/") else "lenient"
