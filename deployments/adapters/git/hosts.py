"""Which hosts a Git source may lead to: public ones, and those that whoever runs this installation names in GIT_HOSTS.

Whoever administers a tenant writes addresses; a worker inside the network goes there. Without this it would tell them
what answers beside it, such as the metadata service of a cloud.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from changecontrol.errors import Permanent, Transient

Address = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")


def check_host(host: str, *, allowed: Sequence[str] = (), is_loopback_allowed: bool = False) -> None:
    """Raise `Permanent` where a host is, or its name leads to, an internal address that nobody allowed.

    `allowed` are names, patterns of names (`*.corp.example`) and networks (`10.20.0.0/16`). A name allowed is not
    looked up.
    """
    name = host.strip("[]").rstrip(".").lower()
    networks = [one for one in allowed if "/" in one]
    if any(fnmatchcase(name, one.lower()) for one in allowed if "/" not in one):
        return
    for address in _looked_up(name):
        is_known = any(address in ip_network(one, strict=False) for one in networks)
        if is_known or (is_loopback_allowed and address.is_loopback):
            continue
        if not address.is_global or address.is_multicast:
            raise Permanent(
                f"The Git server {host} is at an internal address, which this installation does not allow. "
                "Whoever runs it can name the host in GIT_HOSTS."
            )


def _looked_up(name: str) -> Iterable[Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Transient(f"The name of the Git server {name} could not be looked up.") from None
    return {_inner(ip_address(str(one[4][0]).split("%")[0])) for one in found}


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, so that a detour is no way in."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
