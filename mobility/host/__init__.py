"""A small user-space IPv6 host: addresses, neighbours, routers, ICMPv6 (RFC 4861, 4862, 4443)."""
