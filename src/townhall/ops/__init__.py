"""Configuration, assembly, command line, metrics and logging. May import everything; nobody imports it."""
