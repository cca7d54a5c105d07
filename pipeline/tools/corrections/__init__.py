"""Recordings that are corrected later: another class, taken out, or a class of another name."""
