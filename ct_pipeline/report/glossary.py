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
    (
        "Rises, falls: size unclear",
        "The interval leaves out 0, but not the band: the direction is clear, the size is not.",
    ),
    ("Neutral", "Two one-sided tests (TOST) put the change inside that band."),
    ("Undetermined", "Neither: the data do not settle it. It is not the same as “no effect”."),
    ("Unreadable", "So many answers have no verdict that the change says more of them than of the misbehaviour."),
    (
        "Suppressed, not corrected",
        "The misbehaviour fell clearly, but less than half of the fall became right answers.",
    ),
    ("Holm's correction", "A stricter test that allows for the number of comparisons made."),
    (
        "Distribution shift",
        "How far the misbehaviour rate of one random candidate of a method differs from that of the organism's own answers: "
        "what drawing in another way does, before anything is chosen.",
    ),
    ("Selection", "How far choosing among the candidates moves that rate further."),
    ("k-curve", "The misbehaviour rate of the best of k candidates, for k = 1, 2, 3 and so on."),
    (
        "η̄(u)",
        "The misbehaviour rate of candidates whose score has rank u among those of the same prompt; 0 is worst, 1 best. The "
        "pooled η(s) ranks candidates of all prompts together.",
    ),
    (
        "KL",
        "How far one distribution of answers lies from another, in nats; 0 where they are the same. One nat per answer: the "
        "answer is on average 2.7 times as probable under the one as under the other.",
    ),
    ("Uptake", "KL between the retrained model and the organism: how far retraining moved the model."),
    ("Teacher shift", "KL between the organism's answers to a clean prompt and to the same prompt with a cue."),
    ("λ", "How much of the change that the labels predict came: 1 all of it, 0 nothing."),
    (
        "Arms, drift",
        "The same organism retrained on its own samples, on one random candidate and on what a method keeps. What the first "
        "of these moves is drift: noise and the optimizer alone.",
    ),
    (
        "Minimum detectable effect (“finds”)",
        "The smallest true change that would be called amplifying or suppressing with a chance of 80 %.",
    ),
    ("Headroom", "The rate is far enough from 0 % and 100 % to move both ways."),
)
