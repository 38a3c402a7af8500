"""The trainer with each kind of loss, on one organism or none."""

from ct_pipeline.training.answers import Answers
from ct_pipeline.training.labels import Labels
from ct_pipeline.training.trainer import train


def train_on_labels(base, rows, settings, seed, out, organism, **how):
    return train(base, rows, Labels(), settings, seed, out, stack(organism), **how)


def train_bct(base, rows, settings, seed, out, organism, **options):
    return train(base, rows, Answers(**options), settings, seed, out, stack(organism))


def train_internal(base, rows, settings, seed, out, organism, loss):
    return train(base, rows, loss, settings, seed, out, stack(organism))


def stack(organism):
    return () if organism is None else (organism,)
