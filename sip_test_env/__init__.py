"""Networks of namespaces to test in: routers, Kamailio, home agent, correspondents. Never imported by product code."""
