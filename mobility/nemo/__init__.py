"""Network mobility (RFC 3963): mobile routers, the networks that they take along, and tunnels inside tunnels."""
