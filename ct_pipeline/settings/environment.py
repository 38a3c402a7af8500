"""Where results live, and how this process and its children are to behave; to be called before a heavy import."""

import os
from pathlib import Path

from ct_pipeline.settings.errors import UserError

SETTINGS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    # Large freed blocks are kept instead of handed back to the kernel: avoids a page fault per training step.
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
}


DATABASE_VARIABLE = "CT_PIPELINE_DATABASE"
TRACKED_FILES_VARIABLE = "CT_PIPELINE_MLFLOW_ARTIFACTS"
EXECUTORS = ("in_process", "ray")


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


def remote() -> str | None:
    """The fsspec URL under which finished artifacts are shared: CT_PIPELINE_REMOTE; None: they stay on this machine."""
    return os.environ.get("CT_PIPELINE_REMOTE", "").strip() or None


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


def database_url() -> str:
    """Address of the PostgreSQL database of Dagster and MLflow, password included; empty: SQLite files."""
    return os.environ.get(DATABASE_VARIABLE, "").strip()


def mlflow_artifacts() -> str:
    """Where MLflow keeps tables of runs, by a URI such as s3://bucket/mlflow; empty: CT_PIPELINE_HOME/mlflow."""
    return os.environ.get(TRACKED_FILES_VARIABLE, "").strip().rstrip("/")


def narrowing() -> tuple[str, ...]:
    """Names to which the study is narrowed: CT_PIPELINE_ONLY, separated by commas; empty: all of it."""
    return tuple(name.strip() for name in os.environ.get("CT_PIPELINE_ONLY", "").split(",") if name.strip())


def seed_limit() -> int | None:
    """How many of the study's seeds are run: CT_PIPELINE_SEEDS; None: all of them."""
    given = os.environ.get("CT_PIPELINE_SEEDS")
    if given and not given.isdecimal():
        raise UserError(f"CT_PIPELINE_SEEDS: found {given!r}; allowed: a number of seeds, or nothing for all of them")
    return int(given) if given else None


def executor() -> str:
    """Who runs the steps of a Dagster run: CT_PIPELINE_EXECUTOR, else in_process."""
    return _one_of_executors("CT_PIPELINE_EXECUTOR", os.environ.get("CT_PIPELINE_EXECUTOR") or EXECUTORS[0])


def choose_executor(name: str) -> None:
    """Sets CT_PIPELINE_EXECUTOR for this process and its children, unless the name is empty; UserError for an unknown one."""
    if name:
        os.environ["CT_PIPELINE_EXECUTOR"] = _one_of_executors("--executor", name)


def _one_of_executors(where: str, given: str) -> str:
    if given not in EXECUTORS:
        raise UserError(f"{where}: found {given!r}; allowed: {', '.join(EXECUTORS)}")
    return given


def ray_address() -> str:
    """The Ray cluster's dashboard, which takes jobs: RAY_ADDRESS, else Ray's usual port on this machine."""
    return (os.environ.get("RAY_ADDRESS") or "http://127.0.0.1:8265").rstrip("/")


def step_cores() -> int | None:
    """Cores that a step computes on instead of a GPU: CT_PIPELINE_STEP_CORES; None: one GPU, or the whole machine."""
    given = os.environ.get("CT_PIPELINE_STEP_CORES")
    if given and not (given.isdecimal() and int(given) > 0):
        raise UserError(f"CT_PIPELINE_STEP_CORES: found {given!r}; allowed: a number of cores, or nothing for a GPU")
    return int(given) if given else None


def enter_folder() -> None:
    """Goes to CT_PIPELINE_FOLDER where it is set: relative paths mean the same in a step on another machine."""
    if folder := os.environ.get("CT_PIPELINE_FOLDER"):
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(
                f"CT_PIPELINE_FOLDER: {folder} cannot be entered on this machine ({error.strerror}): the folder in which "
                "a study is started, and CT_PIPELINE_HOME, must be the same shared folders on all machines"
            ) from error
