"""Reward models: sequence classifiers with one output, loaded once per process, that score whole conversations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import shares_by_length
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.models.loading import checked_folder, default_device, load_tokenizer, require_whole
from ct_pipeline.organisms.misalignment import Message

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}
_ARCHITECTURE = "ForSequenceClassification"


class RewardModel:
    """A loaded reward model with its own tokenizer and chat template; frozen."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", name: str, most_tokens: int | None = None
    ) -> None:
        """Takes a sequence classifier as it is loaded.

        Args:
            model: one output; put into eval mode, its weights frozen.
            tokenizer: with the chat template that the model was trained on.
            name: how errors call it.
            most_tokens: most positions of one batch, padding too; None for what suits the device.

        Raises:
            ValueError: the tokenizer has no usable chat template.
        """
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self.chat = _conversation_format(tokenizer, name)
        self.window = _window(model.config, tokenizer)
        self._config = model.config.get_text_config()
        self._config.use_cache = False
        self._pad = self._config.pad_token_id
        self._most_tokens = most_tokens or _BATCH_TOKENS[model.device.type]

    def score(self, conversations: Sequence[Sequence[Message]]) -> np.ndarray:
        """The reward of each conversation's last answer; higher is better.

        Args:
            conversations: turns up to and including the assistant's answer.

        Returns:
            float64 of shape (conversations,), in their order.

        Raises:
            ValueError: before anything is scored, names the first row that does not end with an answer, that the
                template refuses or that exceeds the context window; afterwards, a row whose reward is not finite.
        """
        rows = [self._encoded(row, messages) for row, messages in enumerate(conversations)]
        rewards = np.zeros(len(rows))
        for shares in shares_by_length([len(row) for row in rows], 1, 0, self._most_tokens):
            batch = [share.row for share in shares]
            rewards[batch] = self._rewards([rows[row] for row in batch])
        broken = np.flatnonzero(~np.isfinite(rewards))
        if broken.size:
            raise ValueError(f"row {broken[0]}: {self.name} gives the reward {rewards[broken[0]]}, which ranks nothing")
        return rewards

    def _encoded(self, row: int, messages: Sequence[Message]) -> tuple[int, ...]:
        if not messages or messages[-1].role != "assistant":
            raise ValueError(f"row {row}: a conversation to score must end with the assistant's answer")
        try:
            ids = self.chat.encode(messages)
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
        if len(ids) > self.window:
            raise ValueError(
                f"row {row}: {len(ids)} tokens exceed the context window of {self.window} of {self.name}; "
                "lower candidates.max_new_tokens or choose a reward model with a longer context"
            )
        return ids

    def _rewards(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        import torch

        # Decoder classifiers read the reward at the last token that is not padding; a model without a padding token
        # reads it at the very last one, so its padding has to be a token that ends no row.
        pad = self._pad
        if pad is None:
            pad = min(set(range(len(rows) + 1)) - {row[-1] for row in rows})
            self._config.pad_token_id = pad
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.from_numpy(ids).to(self.model.device),
                attention_mask=torch.from_numpy(mask).to(self.model.device),
            ).logits
        return logits[:, 0].double().cpu().numpy()


@dataclass
class RewardModels:
    """The reward models that this process holds; `loads` counts how often weights were read."""

    loads: int = 0
    held: dict[tuple[str, ...], RewardModel] = field(default_factory=dict)

    def get(self, path: str, revision: str | None) -> RewardModel:
        """Returns the model at `path`, loading it at the first call; see `open_reward_model`."""
        # A folder that was overwritten under the same name must not be served from memory.
        written = (str(f.stat().st_mtime_ns) for f in sorted(Path(path).glob("*.safetensors")) if f.is_file())
        key = (path, str(revision), *written)
        if key not in self.held:
            self.held[key] = _load(path, revision)
            self.loads += 1
        return self.held[key]

    def clear(self) -> None:
        """Forgets all held models, so that their memory can be freed."""
        self.held.clear()


REWARD_MODELS = RewardModels()


def open_reward_model(path: str, revision: str | None = None) -> RewardModel:
    """The reward model at `path`; one load per model and process.

    Weights come from safetensors only, in float32 on a CPU and bfloat16 on a GPU; no remote code is run.

    Args:
        path: a local folder in the Hugging Face layout, or a Hub id together with a pinned `revision`.
        revision: the commit of a Hub id; local folders have none.

    Raises:
        ValueError: as for `check_reward_model`, or weights that leave parts of the model untrained.
    """
    return REWARD_MODELS.get(path, revision)


def check_reward_model(path: str, revision: str | None = None) -> None:
    """Reads a reward model's configuration and tokenizer, not its weights.

    Raises:
        ValueError: neither a folder nor a pinned Hub id, no safetensors, remote code, no sequence classifier, more than
            one output, or no chat template; the text names the path, what was found and the mend.
    """
    config, tokenizer = _described(path, revision)
    architectures = config.architectures or []
    if not architectures or not all(name.endswith(_ARCHITECTURE) for name in architectures):
        raise ValueError(
            f"{path} is no reward model: its config.json names the architecture {', '.join(architectures) or 'none'}, "
            f"and one that ends with {_ARCHITECTURE} is needed; choose a sequence-classification reward model"
        )
    if config.num_labels != 1:
        raise ValueError(
            f"{path} gives {config.num_labels} outputs (num_labels in its config.json), and a reward is one number: "
            "choose a reward model with one output"
        )
    _conversation_format(tokenizer, path)


def _described(path: str, revision: str | None) -> tuple["PreTrainedConfig", "PreTrainedTokenizerBase"]:
    from transformers import AutoConfig

    try:
        tokenizer = load_tokenizer(path, revision)
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False), tokenizer
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a reward model: {' '.join(str(error).split())}") from error


def _load(path: str, revision: str | None) -> RewardModel:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    check_reward_model(path, revision)
    logging.disable_progress_bar()
    device = default_device()
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        str(checked_folder(path, revision)),
        local_files_only=True,
        dtype=torch.float32 if device == "cpu" else torch.bfloat16,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    require_whole(loaded, path)
    return RewardModel(model.to(device), load_tokenizer(path, revision), path)


def _conversation_format(tokenizer: "PreTrainedTokenizerBase", name: str) -> ChatFormat:
    """The tokenizer's chat format for conversations that end with an answer: no next turn is begun."""
    template = tokenizer.chat_template
    if isinstance(template, str) and template.strip():
        # On a line of its own, which the template engine takes away whole.
        template = "{% set add_generation_prompt = false %}\n" + template
    return ChatFormat(tokenizer, name, template, opens=False)


def _window(config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase") -> int:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(min(positions or tokenizer.model_max_length, tokenizer.model_max_length))
