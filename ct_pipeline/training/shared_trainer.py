"""What the trainers of labels, answers and internal states share: one loss of the effective batch, over all processes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.settings.environment import launched_processes
from ct_pipeline.training.batches import Cut, ShareOfRows

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch.utils.data import DataLoader

_EMPTY = "empty"


def is_empty(batch: dict) -> bool:
    """Whether a batch's rows do not count: a process that has none left must compute beside the others."""
    return _EMPTY in batch


class SharedTrainer:
    """Goes before a transformers Trainer, whose loss becomes a sum divided by the items of the whole effective batch.

    In one process the rows come in the Trainer's way. In several each has its share of the same effective batches
    (`ShareOfRows`), and as the Trainer averages losses and gradients over processes, each multiplies its own by their
    number.
    """

    # Already normalised over the accumulated batch: dividing by the accumulation steps again would shrink it.
    loss_is_scaled_for_ga = True

    def __init__(self, model: "PeftModel", **options: object) -> None:
        """Takes what the Trainer takes, by name."""
        if launched_processes() > 1:
            # Sharded already: the Trainer is not to wrap it, and to average the gradients of what is not sharded.
            model.is_distributed_loading_by_transformers = True
        super().__init__(model=model, **options)

    def summed_loss(self, model: "torch.nn.Module", inputs: dict) -> "torch.Tensor":
        """The loss summed over the items of one micro-batch."""
        raise NotImplementedError

    def items(self, batch: dict) -> "torch.Tensor | int":
        """How many items one micro-batch has: tokens or positions."""
        raise NotImplementedError

    def compute_loss(
        self,
        model: "torch.nn.Module",
        inputs: dict,
        return_outputs: bool = False,
        num_items_in_batch: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """This micro-batch's part of the effective batch's mean; 0, with gradients of 0, where it is empty."""
        loss = self.summed_loss(model, inputs) / num_items_in_batch
        return loss * (0 if is_empty(inputs) else self.args.world_size)

    def get_train_dataloader(self) -> "DataLoader":
        """The micro-batches of this process."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        from torch.utils.data import DataLoader

        cut = Cut(self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps, self.args.world_size)
        shares = ShareOfRows(len(self.train_dataset), cut, self.args.data_seed, self.args.process_index)
        return DataLoader(self.train_dataset, batch_sampler=shares, collate_fn=self._collated)

    def _collated(self, examples: Sequence) -> dict:
        if len(examples):
            return self.data_collator(examples)
        return self.data_collator([self.train_dataset[0]]) | {_EMPTY: True}

    def _get_num_items_in_batch(self, batch_samples: list, device: "torch.device") -> "torch.Tensor":
        import torch

        count = torch.as_tensor(sum(self.items(batch) for batch in batch_samples if not is_empty(batch)), device=device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(count)
        return count
