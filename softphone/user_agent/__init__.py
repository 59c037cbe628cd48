"""A user agent (RFC 3261) besides its calls: registration, messages, subscriptions, and what all of them share."""
