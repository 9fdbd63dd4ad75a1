"""What this machine lets this user do about the network of environments; for `lambent doctor`."""

from __future__ import annotations

import dataclasses
import errno
import os

from lambent.dataplane.jail import descriptors, netlink
from lambent.dataplane.sandbox.network.maker import MakerDied, NamespaceRefused, make_once
from lambent.model.errors import PlatformError

_MODULES = "modprobe -a nf_tables nft_chain_nat nft_redir nf_conntrack (and name them in /etc/modules-load.d/)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProbe:
    isolated: bool
    """Environments can have a network namespace of their own."""
    outgoing: bool
    """They can reach the network from it: tried, a redirected connection told where it wanted to go."""
    ipv6: bool
    """This machine has an IPv6 default route, so environments get IPv6 too."""
    reason: str
    """Why something is missing; empty when nothing is."""
    hint: str
    """What to do about it."""


def probe(*, user: bool | None = None) -> NetworkProbe:
    """Make a namespace of each kind in another process and throw it away; some 100 ms, blocking.

    `user`: as the ordinary user's tier would, in a user namespace; by default if we are not root.
    """
    in_user_namespace = os.geteuid() != 0 if user is None else user
    ipv6 = netlink.has_ipv6_default_route()
    failure = _try("none", user=in_user_namespace)
    if failure is not None:
        hint = _hint_namespace(in_user_namespace)
        return NetworkProbe(isolated=False, outgoing=False, ipv6=ipv6, reason=str(failure), hint=hint)
    failure = _try("verify", user=in_user_namespace)
    if failure is not None:
        return NetworkProbe(isolated=True, outgoing=False, ipv6=ipv6, reason=str(failure), hint=_hint_redirect(failure))
    return NetworkProbe(isolated=True, outgoing=True, ipv6=ipv6, reason="", hint="")


def _try(kind: str, *, user: bool) -> PlatformError | None:
    try:
        descriptors.close_all(make_once(kind, user=user))
    except (NamespaceRefused, MakerDied) as failure:
        return failure
    return None


def _hint_namespace(user: bool) -> str:
    if not user:
        return "the node needs CAP_SYS_ADMIN and, in a container, --privileged; check sysctl user.max_net_namespaces"
    return (
        "let ordinary users make user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 "
        "kernel.apparmor_restrict_unprivileged_userns=0 (those of the two that exist), "
        "and user.max_user_namespaces and user.max_net_namespaces above 0"
    )


def _hint_redirect(failure: PlatformError) -> str:
    step = failure.step if isinstance(failure, NamespaceRefused) else ""
    if step in ("redirect_ipv4", "verify_redirect") or os.strerror(errno.EOPNOTSUPP) in str(failure):
        return f"as root: {_MODULES}; until then functions can only run with the network 'none'"
    return "functions can only run with the network 'none' here"
