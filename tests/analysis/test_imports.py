"""The analysis runs where there is no model library and no orchestrator."""

import json
import subprocess
import sys

from tests.conftest import REPOSITORY

LOADED = """
import json, sys
from importlib import import_module
from pathlib import Path
names = sorted(path.stem for path in Path("ct_pipeline/analysis").glob("[a-z]*.py"))
for name in names:
    import_module(f"ct_pipeline.analysis.{name}")
print(json.dumps([names, sorted({module.split(".")[0] for module in sys.modules})]))
"""


def test_no_module_of_the_analysis_loads_torch_or_dagster():
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules, loaded = json.loads(done.stdout)
    assert {"paired", "divergence", "power"} <= set(modules)
    assert {"numpy", "scipy"} <= set(loaded)
    assert not {"torch", "transformers", "dagster", "mlflow", "vllm"} & set(loaded)
