"""Foreign bytes to messages and back. No I/O; every codec raises ``Malformed`` or ``TooLarge`` on bad input, nothing else."""
