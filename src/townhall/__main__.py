"""``python -m townhall``: the command line, also where the script ``townhall`` is not on PATH."""

from __future__ import annotations

from townhall.ops.cli import main

if __name__ == "__main__":
    main()
