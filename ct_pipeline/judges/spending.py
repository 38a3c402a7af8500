"""What a judge has cost in one run."""

from dataclasses import asdict, dataclass

from ct_pipeline.settings.judge import Prices

MILLION = 1_000_000


@dataclass
class Spending:
    """Counts of one run; tokens are those that the server reported for replies that were used.

    Attributes:
        replies: got from the server.
        cached: found on disk or asked already in the same call.
        requests: sent, failed ones included; what a server charges for those is unknown.
        prompt_tokens: of the replies with a report.
        completion_tokens: likewise.
        unreported: replies without a report of tokens; the cost is then a lower bound.
    """

    replies: int = 0
    cached: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unreported: int = 0

    def count(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Counts a reply from the server."""
        self.replies += 1
        if prompt_tokens is None or completion_tokens is None:
            self.unreported += 1
        else:
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens

    def cost(self, prices: Prices | None) -> float | None:
        """Tokens times prices, in the currency of the prices; None without prices, or where no reply reports tokens."""
        if prices is None or (self.replies and self.unreported == self.replies):
            return None
        return (self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion) / MILLION

    def as_json(self, prices: Prices | None) -> dict[str, object]:
        """All counts and the cost, for a record."""
        return {**asdict(self), "cost": self.cost(prices)}
