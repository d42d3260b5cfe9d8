"""Who makes a request, as its key says; the same for HTTP and for direct gRPC callers."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TenantClass: TypeAlias = Literal["anonymous", "trusted", "limited", "unlimited"]

_SALT = "tenant:"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one key may ask for; None = none.

    Both per-minute bounds are refilled continuously, and allow a minute's worth at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key. The default is everybody, where no keys are configured.

    `tenant` separates the prefix cache: callers of one tenant share it, others never do; empty is
    the common cache. `key_id` is a short name of the key that may be logged. `profile` None leaves
    the choice to host, model and path; `models` None is all. A trusted caller is a service that
    speaks for others: what it says of salt, tenant and priority is taken as it is.
    """

    tenant: str = ""
    key_id: str | None = None
    profile: str | None = None
    models: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    priority: int = 0
    is_trusted: bool = False

    @property
    def cache_salt(self) -> str:
        """What separates the tenant's prefix cache: at most 256 bytes, of ASCII alone.

        Tenants' names are bounded in the key file. Empty for the common cache.
        """
        return f"{_SALT}{self.tenant}" if self.tenant else ""

    @property
    def tenant_class(self) -> TenantClass:
        """What metrics say of the caller, whose names are too many for labels."""
        if self.key_id is None:
            return "anonymous"
        if self.is_trusted:
            return "trusted"
        return "unlimited" if self.limits == Limits() else "limited"

    def tenant_of(self, cache_salt: str) -> str:
        """Whose request it is that came with this salt; a trusted caller says so by the salt."""
        if self.is_trusted or self.key_id is None:
            return cache_salt.removeprefix(_SALT) if cache_salt.startswith(_SALT) else ""
        return self.tenant

    def may_use(self, model: str) -> bool:
        """Whether the key admits a model, by the name that the caller or an alias gives it."""
        return self.models is None or model in self.models


ANYBODY = Caller()
"""Every caller, where no keys are configured."""
