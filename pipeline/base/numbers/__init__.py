"""Counts and shares: how they are dealt, checked and given an interval."""
