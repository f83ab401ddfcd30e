"""Who may go."""
