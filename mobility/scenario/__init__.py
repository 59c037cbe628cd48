"""Scenario policy table and the scenarios: which communication method applies to a binding."""
