"""Tokens, prices, estimates and the bill."""
