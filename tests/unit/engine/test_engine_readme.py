import re
from pathlib import Path

import townhall.engine


def test_the_example_runs():
    page = (Path(townhall.engine.__file__).parent / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 1
    exec(compile(examples[0], "README.md", "exec"), {})
