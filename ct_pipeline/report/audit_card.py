"""The card of an audit: what was audited, how, what was found and what that cannot say; in model-card style.

A card is plain JSON (`card.json` of the artifact `audit_verdict`); this module says it in words, as sections.
Names and sentences in it may be a stranger's: they are escaped by whoever renders them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from ct_pipeline.analysis.outcomes import SHARES, OutcomeChange
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.verdicts import MOST_MISSING, Verdict
from ct_pipeline.measurement.condition import DECODINGS, DOMAINS, MAIN_VIEW, View
from ct_pipeline.report.as_markdown import as_markdown
from ct_pipeline.report.audit_remarks import SAME_ANSWERS, Card, adapter_remarks, prompt_remarks
from ct_pipeline.report.figures.stacks import outcome_plot
from ct_pipeline.report.judge_sections import judge_limit, judge_sections
from ct_pipeline.report.outcome_words import HEADS, NOT_CORRECTED, bar, moved, said, worst_case
from ct_pipeline.report.section import Block, Page, Picture, Pictures, Section, Sentences, Strong, Table, Text
from ct_pipeline.report.wording import MISSING, SYMBOLS, decimal, percent, points
from ct_pipeline.store.typed import typed

MODELS = ("base model", "before", "after")
VIEWS = tuple(View(domain, decoding) for domain in DOMAINS for decoding in reversed(DECODINGS))


def markdown_card(card: Card) -> str:
    """The whole card as Markdown; with the run and what is known from the one before, where they are given."""
    return as_markdown(Page("", "", f"Audit card: {card['name']}", lead(card), list(sections(card))))


def lead(card: Card) -> list[Block]:
    """What stands above the sections: the description and the result."""
    described = [Text(card["description"])] if card["description"] else []
    return [*described, Sentences([Strong(sentence) for sentence in sentences(card)], result=True)]


def sections(card: Card) -> Iterator[Section]:
    """The parts of the card in their order."""
    results = card["results"]
    yield _section("Subject", ("Model", "What"), [(name, card["models"][name]) for name in MODELS])
    inputs = [(each["role"], each["name"], each["digest"]) for each in card["inputs"]]
    yield _section("Inputs", ("Input", "Name", "SHA-256, revision or fingerprint"), inputs)
    head = ("Probe", "Misbehaviour", "Prompts", "Judged by")
    yield _section("Probes", head, list(_probes(card)), text=_decoding(card))
    yield _section("Results", ("Probe", "View", "Before", "After", "Change", "Verdict"), list(_results(card)))
    if card.get("judges"):
        yield from judge_sections(card["judges"])
    if outcomes := list(_outcomes(card)):
        yield Section("What came in place of the misbehaviour", [Pictures(outcomes)])
    yield _gate(results["gate"], list(_flags(card)))
    predicted = list(_predictions(results["predictions"]))
    why = "" if predicted else "Nothing to predict from: no labels and no probe with a plain side."
    head = ("From", "Predicted change", "Interval", "Sign", "Basis")
    yield _section("Prediction", head, predicted, text=why, lines=list(_label_risks(results["predictions"])))
    yield _shift(results["shift"])
    if card.get("drift"):
        yield _section("Against the run before", lines=card["drift"]["sentences"])
    yield _section("What this cannot say", lines=card["limits"])
    yield _section("Provenance", ("What", "Value"), list(_provenance(card)))
    yield _quarantine(card["quarantine"])


def _section(
    title: str,
    head: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    *,
    text: str = "",
    lines: Sequence[str] = (),
) -> Section:
    """A text, a table and a list, those that have something to say."""
    blocks: list[Block] = [Text(text)] if text else []
    blocks += [Table(head, rows)] if rows else []
    return Section(title, [*blocks, Sentences(lines)] if lines else blocks)


def sentences(card: Card) -> Iterator[str]:
    """The result in a sentence per probe, and one for the gate."""
    results = card["results"]
    if results.get("identical"):
        yield SAME_ANSWERS
    for name, result in results["probes"].items():
        change = result["changes"].get(MAIN_VIEW.name)
        if change is None:
            risk = result["risk"]["before"][MAIN_VIEW.name]
            yield f"{name}: {percent(risk['value'])} of answers misbehave {_rate_interval(risk)}; nothing trained yet."
        else:
            yield (
                f"{SYMBOLS[Verdict(result['verdict'])]} {name}: {result['verdict']}; the risk went from "
                f"{percent(change['before'])} to {percent(change['after'])}, {points(change['value'])} points "
                f"({_interval(change)}).{_instead(result)}"
            )
    if results["labels_only"]:
        for each in results["predictions"]:
            moved = f"{points(each['value'])} points ({_interval(each)})"
            yield f"Predicted for {each['group']} from {each['source']}: {each['sign']}, {moved}."
        yield "Release gate: not applicable, nothing was trained yet."
    else:
        yield f"Release gate: {results['gate']['sentence']}"


def _main_outcomes(result: Mapping[str, object]) -> OutcomeChange | None:
    """Outcomes of one probe's answers, sampled in domain; None before any training."""
    found = result.get("outcomes", {}).get(MAIN_VIEW.name)
    return None if found is None else typed(OutcomeChange, found)


def _flag(result: Mapping[str, object]) -> bool:
    """Whether one probe's misbehaviour is suppressed, not corrected."""
    outcomes = _main_outcomes(result)
    return outcomes is not None and outcomes.suppressed_not_corrected(
        typed(Difference, result["changes"][MAIN_VIEW.name])
    )


def _instead(result: Mapping[str, object]) -> str:
    """What came in its place, and what missing verdicts leave open, as a further sentence each; "" with nothing to say."""
    outcomes = _main_outcomes(result)
    if outcomes is None:
        return ""
    flag = f" {NOT_CORRECTED.capitalize()}: {moved(outcomes)}." if _flag(result) else ""
    return flag + (f" {bounds[0].upper()}{bounds[1:]}." if (bounds := worst_case(outcomes)) else "")


def _flags(card: Card) -> Iterator[str]:
    """What a reader of the gate has to know beside its tests."""
    if card["results"].get("identical"):
        yield SAME_ANSWERS
    yield from prompt_remarks(card)
    for name, result in card["results"]["probes"].items():
        if _flag(result):
            yield f"{name}: {NOT_CORRECTED}. The gate counts misbehaviour alone; {moved(_main_outcomes(result))}."


def _outcomes(card: Card) -> Iterator[Picture]:
    """A stacked bar of both sides per probe."""
    for name, result in card["results"]["probes"].items():
        outcomes = _main_outcomes(result)
        if outcomes is None:
            continue
        bars = [("Before", outcomes.before), ("After", outcomes.after)]
        names = [part for part in SHARES if any(getattr(shares, part) for _, shares in bars)]
        rows = [
            (title, *(percent(getattr(shares, part)) for part in names), percent(shares.cut), bar(shares))
            for title, shares in bars
        ]
        head = ("Answers", *(HEADS[part] for part in names), "Cut at the length limit", "")
        spoken = "; ".join(f"{title}: {said(shares)}" for title, shares in bars)
        yield Picture(
            f"{name}, in domain, sampled",
            partial(outcome_plot, bars),
            f"Outcomes of answers to {name}. {spoken}.",
            Table(head, rows),
        )


def limits(card: Card) -> Iterator[str]:
    """What the card cannot say, as far as the card itself shows it."""
    results, decoding = card["results"], card["decoding"]
    yield from adapter_remarks(card)
    yield from prompt_remarks(card)
    yield "It speaks of these probes, decoded as given here; other prompts, decodings and tools can give other risks."
    if not results["labels_only"]:
        yield "One trained model was measured: the intervals are over prompts, not over repetitions of the training."
        yield (
            "PASS says that the limits are kept on prompts like these, false with a probability of at most "
            f"{card['thresholds']['delta']:g} if they are independent draws of what users ask; it is no proof of safety."
        )
    if any(result["verdict"] == "undetermined" for result in results["probes"].values()):
        yield "Undetermined is not neutral: too few prompts, or an interval that meets an end of the band."
    if any(result["verdict"] == Verdict.UNREADABLE for result in results["probes"].values()):
        yield f"Unreadable: more than {percent(MOST_MISSING, 0)} of a probe's answers have no verdict; its change says nothing."
    if any(probe["source"] == "jsonl" and not probe["judged"] for probe in card["probes"].values()):
        yield "Rules look at words: an answer that misbehaves in other words is counted as behaving, and the reverse."
    if any(probe["judged"] for probe in card["probes"].values()):
        yield judge_limit(card.get("judges"))
    missing = [_missing_share(result) for result in results["probes"].values()]
    if any(share for share in missing):
        yield f"Up to {percent(max(missing))} of a probe's answers have no verdict; they are left out of the rates."
    if results["predictions"]:
        yield "The prediction holds to first order; how much of it a training takes up is not known beforehand."
    if results["shift"]["uptake"]["missing"] and not results["labels_only"]:
        yield f"How far the model's law moved was not measured: {results['shift']['uptake']['missing']}."
    if decoding["samples"] == 1:
        yield "One sample a prompt: how much answers to the same prompt vary is not known."
    if card["tiny_world"]:
        yield "A model of the tiny world shows that the audit measures what it claims, nothing of any other model."


def _missing_share(result: Mapping[str, object]) -> float:
    rates = [side[MAIN_VIEW.name] for side in result["risk"].values()]
    return max((one["missing"] / one["rows"] for one in rates if one["rows"]), default=0.0)


def _probes(card: Card) -> Iterator[tuple[str, ...]]:
    for name, probe in card["probes"].items():
        sizes = ", ".join(f"{count} {role}" for role, count in probe["sizes"].items())
        by = "rules"
        if probe["judged"]:
            by = "a judge" if card.get("judges") else "no judge"
        yield name, probe["misbehaviour"], sizes, by


def _decoding(card: Card) -> str:
    way = card["decoding"]
    return (
        f"Sampled at temperature {way['temperature']:g}, top-p {way['top_p']:g}, {way['samples']} a prompt, at most "
        f"{way['max_new_tokens']} tokens; greedy once beside it. Before and after share prompts and random numbers (seed "
        f"{card['seed']}). Intervals at {100 * card['confidence']:g} %, clustered by prompt; changes within "
        f"±{100 * card['thresholds']['epsilon']:g} points count as none."
    )


def _results(card: Card) -> Iterator[tuple[str, ...]]:
    for name, result in card["results"]["probes"].items():
        for view in VIEWS:
            sides = {side: rates[view.name] for side, rates in result["risk"].items()}
            if not any(rate["rows"] for rate in sides.values()):
                continue
            change = result["changes"].get(view.name)
            word = result["verdict"] if view == MAIN_VIEW and result["verdict"] else ""
            moved = MISSING if change is None else f"{points(change['value'])} [{_interval(change)}]"
            yield name, view.title, _rate(sides.get("before")), _rate(sides.get("after")), moved, word
        for title, rates in (("plain side", result["plain"]), ("plain questions right", result["right"])):
            if any(rate["rows"] for rate in rates.values()):
                yield name, title, _rate(rates.get("before")), _rate(rates.get("after")), "", ""


def _gate(gate: Mapping[str, object] | None, flags: Sequence[str]) -> Section:
    if gate is None:
        return _section("Release gate", text="Not applicable: nothing was trained yet.")
    rows = []
    for test in gate["tests"]:
        shown = percent if test["quantity"] == "risk" else points
        numbers = (shown(value) for value in (test["threshold"], test["bound"]["mean"], test["bound"]["upper"]))
        outcome = "PASS" if test["passed"] else "NO SOLUTION FOUND"
        rows.append((test["probe"], test["quantity"], *numbers, str(test["prompts"]), outcome))
    head = ("Probe", "Tested", "Allowed", "Seen", "Upper bound", "Safety prompts", "Outcome")
    tests = [*flags, *(test["sentence"] for test in gate["tests"])]
    return _section("Release gate", head, rows, text=gate["sentence"], lines=tests)


def _predictions(predictions: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, ...]]:
    for each in predictions:
        source = f"{each['source']}: {each['group']}"
        yield source, points(each["value"]), _interval(each), each["sign"], each["basis"]


def _label_risks(predictions: Sequence[Mapping[str, object]]) -> Iterator[str]:
    for each in predictions:
        if risks := each.get("risks"):
            labels, own = (_rate(risks[name]) for name in ("labels", "own"))
            yield f"{each['group']}: labels that misbehave: {labels}; the model's own samples: {own}."


def _shift(shift: Mapping[str, Mapping]) -> Section:
    rows = [
        (name, part["name"], *_nats(part)) for name, ways in shift["uptake"]["probes"].items() for part in ways.values()
    ]
    rows += [(group, "-log P(label) under before", *_nats(part)) for group, part in shift["labels"].items()]
    why = shift["uptake"]["missing"]
    missing = f"No KL between before and after: {why}." if why else ""
    return _section("Shift", ("Of", "What", "Nats per answer", "Nats per token"), rows, text=missing)


def _nats(part: Mapping[str, Mapping]) -> tuple[str, ...]:
    return tuple(
        MISSING
        if term["value"] is None
        else f"{decimal(term['value'], 3)} [{decimal(term['low'], 3)} to {decimal(term['high'], 3)}]"
        for term in (part["sequence"], part["token"])
    )


def _provenance(card: Card) -> Iterator[tuple[str, str]]:
    made = card["provenance"]
    if card.get("run"):
        yield "Run", f"{card['run']['number']}, {card['run']['time']}"
    yield "Commit", (made["commit"] or MISSING) + (" with uncommitted changes" if made["dirty"] else "")
    yield "Seed", str(card["seed"])
    for side, each in card["templates"].items():
        yield f"Chat template, {side}", f"{each['template']}, {each['escaped']} special tokens escaped"
    for name, fingerprint in made["artifacts"].items():
        yield f"Artifact {name}", fingerprint
    yield from made["versions"].items()


def _quarantine(inspections: Sequence[Mapping]) -> Section:
    rows = [
        (
            each["subject"],
            each["kind"],
            "accepted" if each["accepted"] else "refused",
            "; ".join(f"{name} ({kind})" for name, kind in list(each["unopened"].items())[:8]) or MISSING,
        )
        for each in inspections
    ]
    none = "" if rows else "Nothing of a stranger's was opened."
    return _section("Quarantine", ("What", "Kind", "Outcome", "Left unopened"), rows, text=none)


def _rate(rate: Mapping[str, object] | None) -> str:
    return MISSING if rate is None or rate["value"] is None else f"{percent(rate['value'])} {_rate_interval(rate)}"


def _rate_interval(rate: Mapping[str, object]) -> str:
    return "" if rate["value"] is None else f"[{percent(rate['low'])} to {percent(rate['high'])}]"


def _interval(change: Mapping[str, object]) -> str:
    if change["value"] is None or change["standard_error"] is None:
        return MISSING
    return f"{points(change['low'])} to {points(change['high'])}"
