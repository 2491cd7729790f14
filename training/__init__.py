"""How sam_tiny is made: its pictures, the training of a small SAM on them, and its evaluation."""
