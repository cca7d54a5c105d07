"""The search for near duplicates: hashes propose pairs of frames, their pixels confirm them."""
