"""Networks of namespaces to test in: routers, Kamailio, home agent, correspondents. Product code never imports it."""
