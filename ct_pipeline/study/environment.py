"""Where results live, and how this process and its children are to behave; to be called before a heavy import."""

import os
from pathlib import Path

from ct_pipeline.study.errors import UserError

SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    # Large freed blocks are kept instead of handed back to the kernel: avoids a page fault per training step.
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
}


def prepare_environment() -> None:
    """Switches telemetry off and noise down for this process and its children; what the user set stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def launched_processes() -> int:
    """How many processes `accelerate launch` started to train one model together, this one among them; 1 elsewhere."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def home() -> Path:
    """The folder that holds artifacts, tracking, Dagster's own files and reports: CT_PIPELINE_HOME, else ./results."""
    return Path(os.environ.get("CT_PIPELINE_HOME") or "results").absolute()


def study_file() -> Path:
    """The study that Dagster shows: CT_PIPELINE_STUDY, else studies/tiny.yaml."""
    return Path(os.environ.get("CT_PIPELINE_STUDY") or "studies/tiny.yaml")


def audits_folder() -> Path:
    """The folder of audit files: CT_PIPELINE_AUDITS, else ./audits."""
    return Path(os.environ.get("CT_PIPELINE_AUDITS") or "audits")


def fsdp_config() -> Path | None:
    """The configuration file of `accelerate launch`: CT_PIPELINE_FSDP_CONFIG; None: the shipped one."""
    given = os.environ.get("CT_PIPELINE_FSDP_CONFIG")
    if given and not Path(given).is_file():
        raise UserError(
            f"CT_PIPELINE_FSDP_CONFIG: there is no file at {given}; start from ct_pipeline/training/fsdp.yaml, or unset it"
        )
    return Path(given).absolute() if given else None


def dagster_address() -> str:
    """Where the Dagster UI is, for links: CT_PIPELINE_DAGSTER_UI, else its usual port on this machine."""
    return os.environ.get("CT_PIPELINE_DAGSTER_UI") or "http://127.0.0.1:3000"


def mlflow_address() -> str:
    """Where the MLflow UI is, for links: CT_PIPELINE_MLFLOW_UI, else its usual port on this machine."""
    return os.environ.get("CT_PIPELINE_MLFLOW_UI") or "http://127.0.0.1:5000"


def narrowing() -> tuple[str, ...]:
    """Names to which the study is narrowed: CT_PIPELINE_ONLY, separated by commas; empty: all of it."""
    return tuple(name.strip() for name in os.environ.get("CT_PIPELINE_ONLY", "").split(",") if name.strip())


def seed_limit() -> int | None:
    """How many of the study's seeds are run: CT_PIPELINE_SEEDS; None: all of them."""
    given = os.environ.get("CT_PIPELINE_SEEDS")
    if given and not given.isdecimal():
        raise UserError(f"CT_PIPELINE_SEEDS: found {given!r}; allowed: a number of seeds, or nothing for all of them")
    return int(given) if given else None
