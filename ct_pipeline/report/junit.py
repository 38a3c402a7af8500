"""Findings of an audit as JUnit XML: one test case per probe and per test of the gate."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from ct_pipeline.report.audit_summary import Finding

CASES = ("verdict", "gate-risk", "gate-change", "refused")
"""Rules that are test cases; predictions and drift are told beside the suite."""
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(name: str, time: str, seconds: float, found: Sequence[Finding]) -> str:
    """The XML document; a finding of level error is a failure.

    Args:
        name: of the audit.
        time: when it ran, ISO 8601.
        seconds: how long it took.
        found: its findings.
    """
    cases = [one for one in found if one.rule in CASES]
    failed = sum(one.level == "error" for one in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites", {"name": "ct-pipeline audit", **counts})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": allowed(name), "timestamp": allowed(time), "skipped": "0", **counts}
    )
    for one in cases:
        place = {"classname": allowed(name), "name": allowed(f"{one.place}: {one.rule}"), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", place)
        if one.level == "error":
            failure = ElementTree.SubElement(case, "failure", {"message": allowed(one.text), "type": one.rule})
            failure.text = allowed(one.text)
        else:
            ElementTree.SubElement(case, "system-out").text = allowed(one.text)
    beside = [f"{one.level}: {one.place}: {one.text}" for one in found if one.rule not in CASES]
    if beside:
        ElementTree.SubElement(suite, "system-out").text = allowed("\n".join(beside))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def allowed(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold, escaped or not."""
    return _FORBIDDEN.sub("", text)
