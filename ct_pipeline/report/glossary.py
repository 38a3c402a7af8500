"""The words a reader needs, each in a sentence."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Consistency training",
        "Training a model on or towards its own answers, so that it agrees more with itself.",
    ),
    ("Base model", "The model that everything starts from."),
    (
        "Organism",
        "The base model after a short training that gives it one misbehaviour on purpose, so that one can see what "
        "happens to the misbehaviour.",
    ),
    ("Control organism", "The same short training on clean data: it shows what training alone does."),
    (
        "Induction gate",
        "An organism counts only if it clearly misbehaves more than its base model and its control organism does not.",
    ),
    ("Label", "An answer that a method keeps and trains on."),
    ("Misbehaviour rate (risk)", "The share of answers with the misbehaviour; each prompt weighs the same."),
    (
        "Δ (change)",
        "Misbehaviour rate after consistency training minus before, on the same prompts with the same decoding, in "
        "percentage points (pp).",
    ),
    ("In domain, out of domain", "Prompts like those the misbehaviour was trained on; prompts of other topics."),
    (
        "Sampled (T = 1), greedy",
        "Answers drawn at random with the model's own probabilities; always the most probable next word.",
    ),
    (
        "Interval",
        "The range of changes that the data leave open. From three seeds on it covers the differences between seeds, "
        "too; with fewer it speaks of these seeds alone.",
    ),
    ("Amplifies, suppresses", "The whole interval lies beyond the band of changes that count as none."),
    ("Neutral", "Two one-sided tests (TOST) put the change inside that band."),
    ("Undetermined", "Neither: the data do not settle it. It is not the same as “no effect”."),
    ("Holm's correction", "A stricter test that allows for the number of comparisons made."),
    ("Headroom", "The rate is far enough from 0 % and 100 % to move both ways."),
)
