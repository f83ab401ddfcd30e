"""State: the value's pure transitions and its stored form."""
