"""What was dealt stays dealt: each recording keeps its side and its fold when the data grow or are corrected."""
