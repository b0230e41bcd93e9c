"""Lets the setup.py of a package of 2020 find what it asks pip for; on the path only while its sources are fetched.

It reads its requirements with ``pip._internal.req.parse_requirements`` and takes their ``req``, which is called
``requirement`` since pip 20.1.
"""

import contextlib

with contextlib.suppress(ImportError):
    from pip._internal.req.req_file import ParsedRequirement

    ParsedRequirement.req = property(lambda self: self.requirement)
