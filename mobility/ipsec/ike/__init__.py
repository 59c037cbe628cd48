"""The Internet Key Exchange (IKEv2, RFC 7296): security associations that nobody types."""
