"""Mobile IPv6 (RFC 6275): mobile node, home agent, binding tables."""
