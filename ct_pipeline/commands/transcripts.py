"""`ct-pipeline transcripts`: writes stored completions as Inspect logs, says how to read them, opens Inspect View."""

import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ct_pipeline.commands.ui import HOST, require_free
from ct_pipeline.report.inspect_logs import require_inspect, write
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError, printable


def write_transcripts(name: str, port: int | None, console: Console) -> Path:
    """Writes the logs of an audit, an organism or a cell; with a port, serves Inspect View until Ctrl-C.

    Returns the folder of the logs. UserError where inspect-ai is not installed, nothing is called so, or the port is taken.
    """
    require_inspect()
    from ct_pipeline.records.transcripts import transcripts

    if port is not None:
        require_free("--port", port)
    found = transcripts(home(), name)
    folder = home() / "reports" / "transcripts" / name
    for path, transcript in zip(write(found, folder), found, strict=True):
        console.print(
            f"{escape(printable(transcript.model))}: {len(transcript.rows)} completions in {path}", soft_wrap=True
        )
        for fault in transcript.provenance["broken"]:
            console.print(f"[red]broken[/] {escape(printable(fault))}", soft_wrap=True)
    if port is None:
        console.print(f"Open them: ct-pipeline transcripts {name} --view", soft_wrap=True)
    else:
        _view(folder, port, console)
    return folder


def view_command(folder: Path, port: int) -> list[str]:
    """Inspect View on this machine alone; what models said is shown as plain text."""
    return [
        sys.executable, "-m", "inspect_ai", "view", "start", "--log-dir", str(folder), "--host", HOST,
        "--port", str(port), "--no-trust-content",
    ]  # fmt: skip


def _view(folder: Path, port: int, console: Console) -> None:
    # Both end it, also where a shell started this in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console.print(f"Inspect View: http://{HOST}:{port}\nCtrl-C ends it.")
    with subprocess.Popen(view_command(folder, port)) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            console.print("Stopping Inspect View.")
            return
    if code:
        raise UserError(f"Inspect View ended with exit code {code}; what it said stands above")
