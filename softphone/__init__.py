"""The phone: accounts, calls, media, automation. Knows mobility only by its public API (`mobility.client`)."""
