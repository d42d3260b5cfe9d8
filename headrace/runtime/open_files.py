"""How many files, connections among them, this process may have open."""

import resource

_ENOUGH = 65_536


def raise_open_files_limit() -> None:
    """Raise the soft limit to the hard one, as far as it is of use.

    The usual soft limit of 1,024 is for programs that use `select`; beyond it a server can only
    close what it has accepted, without a word.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files_limit() -> int:
    """The limit as it is now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft
