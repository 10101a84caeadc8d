"""Thin: parse, ask the node, encode, write."""
