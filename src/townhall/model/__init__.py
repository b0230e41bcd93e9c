"""Values, names, errors and limits that every room shares. Imports nothing of ours and does no I/O."""
