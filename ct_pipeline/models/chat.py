"""Text to token ids and back, through one pinned chat template per tokenizer."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.settings.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
_PROBE, _ANSWER = "probe", "answer"
MOST_CHARACTERS = 8_000_000
"""Of one text: more than any context window holds."""
_REMEMBERED = 50_000
"""Conversations whose token ids are kept: evaluation prompts are the same for every cell."""


class ChatFormat:
    """A tokenizer with its chat template; text is tokenised once, and data never becomes a control token.

    Attributes:
        escaped: how many special tokens were found inside message contents and responses, and broken up, so far.
        stop_ids: the token ids that end an assistant turn; the first one ends every encoded response.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", name: str = "", template: str | None = None, opens: bool = True
    ) -> None:
        """Takes a tokenizer as it is.

        Args:
            tokenizer: any Hugging Face tokenizer; not changed.
            name: how errors call it.
            template: a Jinja chat template to use in place of the tokenizer's own.
            opens: whether requests are to be answered, so that the template has to begin the assistant's turn.

        Raises:
            ValueError: there is no chat template, or it does not show the end of an assistant turn.
        """
        self.name = name or tokenizer.name_or_path
        chosen = template if template is not None else tokenizer.chat_template
        if not isinstance(chosen, str) or not chosen.strip():
            raise ValueError(
                f"the tokenizer of {self.name} has no chat template (base models seldom have one): save one as "
                "chat_template.jinja in the model's folder, for instance the one of its instruct sibling"
            )
        self.escaped = 0
        self._encoded: dict[tuple[Message, ...], tuple[tuple[int, ...], int]] = {}
        self._tokenizer = tokenizer
        self._template = chosen
        self._control = _control_ids(tokenizer, chosen)
        self._folds_system = not self._renders_system()
        self.stop_ids = self._stop_ids()
        if opens:
            self._require_opening()

    @property
    def template_hash(self) -> str:
        """Sixteen hex digits of the template, the added tokens and what the template makes of a fixed conversation."""
        added = sorted((i, str(token)) for i, token in self._tokenizer.added_tokens_decoder.items())
        shown = self._render([{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}], False)
        content = json.dumps([self._template, added, shown])
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of a conversation up to where the assistant's next turn begins; conversations met before are remembered.

        A template that refuses a system turn (Gemma) gets its text in front of the first user turn.

        Raises:
            ValueError: no message, an unknown role, or a conversation that the template refuses.
        """
        known = self._encoded.get(tuple(messages))
        if known is None:
            before = self.escaped
            ids = self._encode(messages)
            if len(self._encoded) >= _REMEMBERED:
                self._encoded.clear()
            self._encoded[tuple(messages)] = ids, self.escaped - before
            return ids
        self.escaped += known[1]
        return known[0]

    @property
    def prefix_id(self) -> int:
        """The token that stands before a text without context: the one that begins a sequence, else the one that ends it."""
        begin = self._tokenizer.bos_token_id
        return self.stop_ids[-1] if begin is None else begin

    def rendered(self, messages: Sequence[Message], continued: bool = False) -> str:
        """The text of a conversation up to where the assistant's next turn begins, special tokens in its contents broken up.

        `continued`: its last turn, the assistant's, is left open instead. ValueError as for `encode`.
        """
        return self._render(self._turns(messages), not continued, continued)

    def text_ids(self, text: str, neutral: bool = False, opened: bool = True) -> tuple[int, ...]:
        """Token ids of a text that is no conversation.

        Args:
            text: any text.
            neutral: whether its special tokens are meant, because it was rendered or broken up before.
            opened: whether the tokenizer puts in front what begins a sequence, where it does so by itself.
        """
        return self._ids(text if neutral else self.neutralised(text), opened)

    def _encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        # The template writes the beginning-of-sequence token itself where the family wants one.
        return self._ids(self.rendered(messages))

    def _turns(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        if not messages:
            raise ValueError("a conversation needs at least one message")
        unknown = {message.role for message in messages} - set(ROLES)
        if unknown:
            raise ValueError(f"unknown roles {sorted(unknown)}; a role is one of {', '.join(ROLES)}")
        turns = [{"role": message.role, "content": self.neutralised(message.content)} for message in messages]
        if self._folds_system and turns[0]["role"] == "system" and len(turns) > 1:
            turns = [
                {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"},
                *turns[2:],
            ]
        return turns

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Token ids of an assistant's answer, the token that ends its turn included."""
        return (*self._ids(self.neutralised(text)), self.stop_ids[0])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens and turn markers left out."""
        words = [i for i in ids if i not in self._control]
        return self._tokenizer.decode(words, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _ids(self, text: str, opened: bool = False) -> tuple[int, ...]:
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"a text of {len(text):,} characters; at most {MOST_CHARACTERS:,} are tokenised")
        try:
            return tuple(self._tokenizer(text, add_special_tokens=opened)["input_ids"])
        except (UnicodeError, TypeError) as error:
            raise ValueError(f"a text of {len(text):,} characters holds half a character (a lone surrogate)") from error

    def _render(self, turns: list[dict[str, str]], generation: bool, continued: bool = False) -> str:
        from jinja2.exceptions import TemplateError

        try:
            return self._tokenizer.apply_chat_template(
                turns,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=generation,
                continue_final_message=continued,
            )
        except (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
            raise ValueError(f"the chat template of {self.name} refuses a conversation: {error}") from error

    def neutralised(self, text: str) -> str:
        """The text with every special token in it broken up; ValueError where one cannot be."""
        # A space after its first character breaks a special token up; tokenising again shows whether it worked, also
        # for tokens that only a normalizer forms.
        while found := [self._control[i] for i in dict.fromkeys(self._ids(text)) if i in self._control]:
            before = text
            for token in found:
                broken = f"{token[0]} {token[1:]}" if len(token) > 1 else " "
                if token not in broken:
                    self.escaped += text.count(token)
                    text = text.replace(token, broken)
            if text == before:
                raise ValueError(
                    f"a text of {len(text)} characters forms the special token {found[0]!r} and cannot be escaped"
                )
        return text

    def _renders_system(self) -> bool:
        marker = "xsystemx"
        turns = [{"role": "system", "content": marker}, {"role": "user", "content": _PROBE}]
        try:
            return marker in self._render(turns, True)
        except ValueError:
            return False

    def _stop_ids(self) -> tuple[int, ...]:
        turns = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": _PROBE}]
        tail = self._render(turns, False).rpartition(_PROBE)[2]
        ends = [i for i in self._ids(tail) if i in self._control][:1]
        eos = self._tokenizer.eos_token_id
        stops = dict.fromkeys((*ends, *(() if eos is None else (eos,))))
        if not stops:
            raise ValueError(
                f"the chat template of {self.name} ends no assistant turn, and the tokenizer has no eos_token"
            )
        return tuple(stops)

    def _require_opening(self) -> None:
        """UserError where a prompt ends before the place at which the template puts an assistant's answer."""
        question = [{"role": "user", "content": _PROBE}]
        asked = self._render(question, True)
        answered = self._render([*question, {"role": "assistant", "content": _ANSWER}], False)
        before = answered.partition(_ANSWER)[0]
        if before.startswith(asked) and before.strip() != asked.strip():
            raise UserError(
                f"the chat template of {self.name} does not begin the assistant's turn: after a request it lacks "
                f"{before.removeprefix(asked)!r}, so that the model would be asked to go on with the user's turn; add it to "
                "the template ({% if add_generation_prompt %} ... {% endif %})"
            )


def _control_ids(tokenizer: "PreTrainedTokenizerBase", template: str) -> dict[int, str]:
    # Besides the special tokens, added tokens that the template itself writes: some families mark turns with those.
    control = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    for i, token in tokenizer.added_tokens_decoder.items():
        if token.special or (token.content.strip() and token.content in template):
            control[i] = token.content
    # An unknown word becomes the unknown token without any forgery; but byte-level families reuse one token for all.
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        control.pop(tokenizer.unk_token_id, None)
    return control
