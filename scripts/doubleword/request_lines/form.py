"""The form of requests: what all requests of a batch file share, and how a row becomes one of them.

Promises: a row gives the same request whenever it is read; a form that was written down and read again gives the same
requests, whatever became of the files that its flags named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.images import image_url
from doubleword.quick_msgspec import Struct, field
from doubleword.request_lines import examples, templates
from doubleword.request_lines.line import build
from doubleword.service import CHAT
from doubleword.strict_json import read
from doubleword.system import Disk
from doubleword.tables.rows import BadRow, Row

# What rows are: values for a prompt, conversations, or request lines already.
PROMPTS, CONVERSATIONS, REQUESTS = ("prompts", "conversations", "requests")


class RequestForm(Struct, frozen=True, forbid_unknown_fields=True):
    """What the flags say of all requests. `prompt`, `system`, `id` and `images` are templates; `defaults` stand for
    empty values of the places that they name; `before` are messages between the system text and the prompt.

    `folder` is where paths of images begin; `repair` asks for ids that the server takes.
    """

    kind: str
    endpoint: str
    model: Any = None
    prompt: str | None = None
    system: str | None = None
    id: str | None = None
    repair: bool = False
    images: Sequence[str] = ()
    folder: str = "."
    defaults: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[Mapping[str, Any]] = ()

    @property
    def places(self) -> set[str]:
        """The columns that the prompt and the images of a request are made of."""
        return {place for one in (self.prompt or "", *self.images) for place in templates.places(one)}

    def request(self, row: Row, disk: Disk) -> dict[str, Any]:
        """The request of `row`; raises BadRow where it gives none."""
        if row.problem is not None:
            raise BadRow(row, row.problem)
        if self.kind == REQUESTS:
            request = _own(row)
            given = request.get("custom_id")  # one that is missing, empty or no text is for the check to refuse
            if self.repair and isinstance(given, str) and given.strip():
                request["custom_id"] = templates.repaired(given)
            return request
        custom_id = templates.custom_id(self.id, row, self.repair)
        system = None if self.system is None else templates.fill(self.system, row, self.defaults)
        prompt, before, urls = None, list(self.before), []
        if self.kind == CONVERSATIONS:
            messages = examples.messages_of(row)
            if messages[0].get("role") in ("system", "developer"):
                system, before = None, [messages.pop(0), *before]  # the row's own stands first, also before examples
            before += messages
        else:
            assert self.prompt is not None
            prompt = templates.fill(self.prompt, row, self.defaults)
            urls = [self._image(template, row, disk) for template in self.images]
        return build(custom_id, self.endpoint, self.model, prompt, system, self.parameters, before, urls)

    def quick(self, names: tuple[str, ...]) -> Callable[[Sequence[Any]], dict[str, Any] | None] | None:
        """What makes requests of bare rows, a number and cells under `names`, as `request` does, but faster.

        None where requests are made of more than texts; it answers None for a row that has to be looked at.
        """
        if self.kind != PROMPTS or self.endpoint != CHAT or self.images or self.repair or self.prompt is None:
            return None
        fill = templates.filler(self.prompt, names)
        name = templates.filler(self.id, names) if self.id is not None else None
        if fill is None or (name is None and self.id is not None):
            return None
        if self.system is not None and templates.places(self.system):
            return None
        system = templates.fill(self.system, Row(0, (), ())) if self.system is not None else None
        model, parameters = self.model, self.parameters
        before = build("", CHAT, model, None, system, None, self.before)["body"]["messages"]

        def made(bare: Sequence[Any]) -> dict[str, Any] | None:
            text = fill(bare)
            custom_id = templates.DEFAULT_ID % bare[0] if name is None else name(bare)
            if text is None or custom_id is None:
                return None
            messages = [*before, {"role": "user", "content": text}]
            body = {"model": model, "messages": messages, **parameters}
            return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}

        return made

    def original_id(self, row: Row, custom_id: str) -> str | None:
        """The id of which `custom_id` was repaired; None where it is the row's own."""
        if not self.repair or self.id is None:
            return None
        original = _own(row)["custom_id"] if self.kind == REQUESTS else templates.fill(self.id, row)
        return original if original != custom_id else None

    def _image(self, template: str, row: Row, disk: Disk) -> str:
        try:
            return image_url(templates.fill(template, row, self.defaults), Path(self.folder), disk)
        except ValueError as error:
            raise BadRow(row, str(error), "bad_image", "mend the row or the file") from None


def _own(row: Row) -> dict[str, Any]:
    """The request that a row is."""
    try:
        return dict(row.values if row.own is None else read(row.own.encode("utf-8", "surrogatepass")))
    except ValueError as error:
        raise BadRow(row, str(error)) from None
