"""Task folders of one's own with about twenty documents each, in the schemas of MMLU, TruthfulQA and GPQA with reasoning."""

import json

import yaml

SIZE = 20
LETTERS = ("A", "B", "C", "D")


def multiple_choice(folder):
    """MMLU's schema: question, four choices, the number of the right one; examples from a split of their own."""
    rows = [
        {"question": f"w{i} w{i + 1}", "choices": [f"w{(i + k) % 40}" for k in range(4)], "answer": i % 4}
        for i in range(SIZE)
    ]
    return task(
        folder,
        {"test": rows, "dev": rows[:6]},
        task="own_mmlu",
        output_type="multiple_choice",
        test_split="test",
        fewshot_split="dev",
        fewshot_config={"sampler": "first_n"},
        num_fewshot=1,
        description="Questions .\n\n",
        doc_to_text="{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:",
        doc_to_choice=list(LETTERS),
        doc_to_target="answer",
        metric_list=[metric("acc"), metric("acc_norm")],
    )


def true_or_false(folder):
    """TruthfulQA's schema: the first choice is right, and their number differs."""
    rows = [
        {"question": f"w{i}", "mc1_targets": {"choices": [f"w{i} w{k}" for k in range(2 + i % 3)], "labels": [1, 0]}}
        for i in range(SIZE)
    ]
    return task(
        folder,
        {"validation": rows},
        task="own_truth",
        output_type="multiple_choice",
        validation_split="validation",
        num_fewshot=0,
        doc_to_text="Q: {{question}}\nA:",
        doc_to_choice="{{mc1_targets.choices}}",
        doc_to_target=0,
        metric_list=[metric("acc")],
    )


def reasoned(folder):
    """GPQA's schema with reasoning: a text is generated, two readings of it are compared with the right letter."""
    rows = [{"question": f"w{i}", "answer": f"({LETTERS[i % 4]})"} for i in range(SIZE)]
    return task(
        folder,
        {"train": rows},
        task="own_reasoned",
        output_type="generate_until",
        validation_split="train",
        doc_to_text="{{question}}\nLet us think:",
        doc_to_target="answer",
        filter_list=[
            {
                "name": "strict",
                "filter": [{"function": "regex", "regex_pattern": "answer is (.*)"}, {"function": "take_first"}],
            },
            {
                "name": "flexible",
                "filter": [
                    {"function": "regex", "regex_pattern": r"(\([A-D]\))", "group_select": -1},
                    {"function": "take_first"},
                ],
            },
        ],
        generation_kwargs={"until": ["</s>", "\n\n"], "do_sample": False, "max_gen_toks": 12},
        metric_list=[metric("exact_match", ignore_case=True)],
    )


def metric(name, **more):
    return {"metric": name, "aggregation": "mean", "higher_is_better": True, **more}


def task(folder, splits, **fields):
    """Writes documents and a task file; returns the task file."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: f"{split}.jsonl" for split in splits}
    content = {"dataset_path": "json", "dataset_kwargs": {"data_files": files}} | fields
    path = folder / f"{fields['task']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
