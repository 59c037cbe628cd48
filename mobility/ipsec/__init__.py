"""Security associations, ESP, anti-replay and the security policy database (RFC 4301, 4303)."""
