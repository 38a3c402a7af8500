"""A program of its own: renders a stranger's chat template with bounded time and memory, in transformers' sandbox.

Reads {"template", "variables", "conversations": [{"messages", "generation"}], "memory", "seconds", "characters"} as JSON
from its input and writes one {"text"} or {"error"} a conversation. It is started by path, imports nothing of the
package, opens no file and no connection.
"""

import json
import resource
import sys


def main() -> None:
    """Renders everything that was asked for, or ends."""
    asked = json.load(sys.stdin)
    from transformers.utils.chat_template_utils import render_jinja_template

    with open("/proc/self/statm") as status:
        used = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + asked["memory"], used + asked["memory"]))
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + asked["seconds"], spent + asked["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    left = asked["characters"]
    for conversation in asked["conversations"]:
        try:
            texts, _ = render_jinja_template(
                conversations=[conversation["messages"]],
                chat_template=asked["template"],
                add_generation_prompt=conversation["generation"],
                **asked["variables"],
            )
            left -= len(texts[0])
            answer = {"text": texts[0]} if left >= 0 else {"error": "it takes more text than allowed"}
        except MemoryError:
            answer = {"error": "it takes too much memory"}
        except Exception as error:  # noqa: BLE001 - whatever a stranger's template raises is an answer
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if answer.get("error", "").startswith("it takes"):
            return


if __name__ == "__main__":
    main()
