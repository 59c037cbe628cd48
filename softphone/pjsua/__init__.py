"""PJSUA2 as another engine for calls: in a process of its own, over IPv4. `phone` is its `Telephone`."""
