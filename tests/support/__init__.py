"""Helpers that the tests of several parts share; product code never imports them."""
