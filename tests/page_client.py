"""A visitor of the search page over HTTP, as the benchmark has it."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[1] / "tools/benchmarks/search_page.py"
_spec = importlib.util.spec_from_file_location("search_page_benchmark", _PATH)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
PageClient = _module.PageClient
