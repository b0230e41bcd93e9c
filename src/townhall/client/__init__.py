"""The SDK: what a service needs to be found (``Provider``) and to find others (``Consumer``), and the API below both.

=============  =====================================================================================================
``Provider``   registers at start, renews, registers again when forgotten, drains and deregisters on the way out
``Consumer``   ``consumer["user"]`` is a handle: ``pick()``, ``call()``, ``get()``, ``watch()``, always from memory
``Registry``   the native API, call by call
``blocking``   the same three for programs without an event loop
=============  =====================================================================================================

It needs the standard library and msgspec, imports nothing of the server, and is imported piece by piece on first use.
"""
