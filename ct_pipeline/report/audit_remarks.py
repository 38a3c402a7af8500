"""What a reader of an audit has to know of what was measured: whether it is what was meant."""

from collections.abc import Iterator, Mapping

Card = Mapping[str, object]
SAME_ANSWERS = (
    "Before and after gave the very same answers to every prompt: they are the same model, or what was trained does not reach "
    "these prompts. Nothing can have changed, and neutral and PASS say no more than that."
)


def adapter_remarks(card: Card) -> Iterator[str]:
    """What an adapter's folder says beside its weights: another base, a chat template of its own."""
    base = card["models"]["base model"]
    templates = {
        digest
        for each in card["quarantine"]
        if each["kind"] == "checkpoint"
        for digest in each.get("notes", {}).get("chat_templates", ())
    }
    for each in card["quarantine"]:
        notes = each.get("notes", {}) if each["kind"] == "adapter" else {}
        named = notes.get("trained_on")
        if named and _last(named) != _last(base.partition(" at ")[0]):
            yield (
                f"Adapter {each['subject']} says that it was trained on {named}; it was measured on {base}. Equal shapes do "
                "not make two models one: on another base an adapter does something else."
            )
        if any(digest not in templates for digest in notes.get("chat_templates", ())):
            yield (
                f"Adapter {each['subject']} brings a chat template of its own, which was not used: name it as chat_template "
                "if it is the one that the model is served with."
            )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()


def prompt_remarks(card: Card) -> Iterator[str]:
    """Prompts that are not distinct."""
    for probe, counts in card.get("not_distinct", {}).items():
        if counts["repeated"]:
            yield (
                f"{counts['repeated']} prompts of {probe} are the same tokens as another one: they were left out, and "
                f"{counts['asked']} distinct ones were asked."
            )
        if counts["alike"]:
            yield (
                f"{counts['alike']} prompts of {probe} differ from another one in letter case, spaces or punctuation alone: "
                "they count as prompts of their own, and say less than as many others would."
            )
