"""A soak: the node under a camera and restless clients for long, watched from outside."""
