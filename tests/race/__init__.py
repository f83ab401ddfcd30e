"""Real processes race for one table: see test_race.py, and `python -m tests.race` for the table alone."""
