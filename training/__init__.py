"""How sam_tiny is made: generated scenes, the training of a small SAM on them, and its evaluation."""
