"""What the vLLM engine knows of a base model without its weights: where it is, its shapes, window and stop ids."""

from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.models.loading import BaseModel, load_tokenizer, name_of, state_of, wrap_model


@dataclass(frozen=True)
class Source:
    """Where vLLM reads a base model.

    Attributes:
        path: an absolute folder, or a Hub id.
        revision: the commit of a Hub id.
        state: names, sizes and times of a folder's files, so that an overwritten base is another source.
    """

    path: str
    revision: str | None
    state: tuple[str, ...]


def source_of(base: BaseModel | Path | str, revision: str | None = None) -> Source:
    """The source of a base model.

    Raises:
        ValueError: a loaded model that came neither from a folder nor from a pinned Hub id.
    """
    path = base
    if isinstance(base, BaseModel):
        path = base.model.name_or_path
        revision = getattr(base.model.config, "_commit_hash", None)
        if not path or not (Path(path).is_dir() or revision):
            raise ValueError(f"{base.name} is in memory only: save it to a folder, vLLM reads weights from disk")
    folder = Path(path)
    if not folder.is_dir():
        return Source(str(path), revision, ())
    return Source(str(folder.resolve()), None, state_of(folder))


def read_shapes(source: Source) -> BaseModel:
    """The base model with its weights on the meta device: modules, shapes, tokenizer and settings, no numbers.

    Raises:
        ValueError: as `load_base`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    tokenizer = load_tokenizer(source.path, source.revision)
    where = {"revision": source.revision, "trust_remote_code": False, "local_files_only": Path(source.path).is_dir()}
    config = AutoConfig.from_pretrained(source.path, **where)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    try:
        model.generation_config = GenerationConfig.from_pretrained(source.path, **where)
    except OSError:
        model.generation_config = GenerationConfig.from_model_config(config)
    return wrap_model(model, tokenizer, name_of(source.path))
