"""SIP (RFC 3261): message, transport, transaction, dialog, user agent."""
