"""What a row means, whatever its schema and its container; and how two meanings differ.

Not lorascope's reader: written from what the formats' users say of them, to compare files by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable

ROLES = {
    "user": "user human prompter", "assistant": "assistant gpt bot model chatgpt function_call tool_call", "system": "system developer",
    "tool": "tool observation function tool_response function_response ipython",
}
ROLE = {name: role for role, names in ROLES.items() for name in names.split()}
WEIGHTS = ("weight", "loss_weight", "loss", "loss_mask", "train")
REASONING = ("reasoning_content", "reasoning", "thinking")
TURN_KEYS = {"role", "from", "content", "value", "name", "tool_calls", "function_call", "tool_call_id", *WEIGHTS, *REASONING}
ROW_KEYS = {"id", "system", "system_prompt", "tools", "instruction", "input", "output", "history", "conversations", "messages", "conversation", "prompt",
            "question", "completion", "answer", "text", "chosen", "rejected", "label", "kto_tag"}
YES, NO = {"true", "1", "1.0", "yes"}, {"false", "0", "0.0", "no"}


@dataclass
class Turn:
    role: str
    content: str | None
    name: str | None = None
    calls: list = field(default_factory=list)  # (name, arguments)
    ids: list = field(default_factory=list)  # of the calls
    answers: str | None = None
    weight: float | None = None
    reasoning: str | None = None
    more: dict = field(default_factory=dict)


@dataclass
class Row:
    id: str
    turns: list[Turn] = field(default_factory=list)
    system: str | None = None
    tools: list | None = None
    chosen: list[Turn] | None = None
    rejected: list[Turn] | None = None
    label: bool | None = None
    text: str | None = None
    input: str | None = None
    more: dict = field(default_factory=dict)


def decoded(value: Any) -> Any:
    """A list or an object that a container holds as text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def texts(value: Any) -> Any:
    """What may be a text or a list of turns."""
    other = decoded(value)
    is_turn = isinstance(other, dict) and {"from", "role"} & set(other)
    is_turns = isinstance(other, list) and other and all(isinstance(turn, dict) and {"from", "role"} & set(turn) for turn in other)
    return other if is_turn or is_turns or other == [] else value


def mark(value: Any) -> bool | None:
    """Yes or no in any spelling."""
    word = str(value).strip().lower()
    return True if word in YES else False if word in NO else None


def weight(turn: dict) -> float | None:
    """How much a turn counts; a whole turn is `None`."""
    for key in WEIGHTS:
        value = turn.get(key)
        if value is not None:
            yes = mark(value)
            found = float(yes) if yes is not None else float(value)
            return None if found == 1 else found
    return None


def one_call(value: dict) -> tuple[tuple, str | None]:
    function = value.get("function") or value
    return (function.get("name"), decoded(function.get("arguments"))), value.get("id")


def read_turn(turn: dict, clean: Callable) -> Turn:
    word = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = "".join(part if isinstance(part, str) else part.get("text", part.get("value", "")) for part in content)
    calls = decoded(turn.get("tool_calls")) or []
    if old := decoded(turn.get("function_call")):
        calls = [old]
    if word in ("function_call", "tool_call"):
        value = decoded(content)
        calls, content = value if isinstance(value, list) else [value], None
    pairs = [one_call(call) for call in calls]
    return Turn(
        ROLE.get(word, word), content, turn.get("name"), [call for call, _ in pairs], [id for _, id in pairs], turn.get("tool_call_id"), weight(turn),
        next((turn[key] for key in REASONING if turn.get(key)), None), clean({key: value for key, value in turn.items() if key not in TURN_KEYS}))


def turns_of(value: Any, role: str, clean: Callable) -> list[Turn]:
    value = texts(value)
    if value is None:
        return []
    if isinstance(value, str):
        return [Turn(role, value)]
    if isinstance(value, dict):
        value = [value]
    return [read_turn(turn, clean) for turn in value]


def whole(value: Any) -> Any:
    return value


def without_nulls(value: Any) -> Any:
    """What is left where absent and null are one: in Parquet's columns."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def read(row: dict, clean: Callable = whole) -> Row:
    """The meaning of a row; `clean` is what is done to keys that no schema knows."""
    made = Row(str(row.get("id")), more=clean({key: value for key, value in row.items() if key not in ROW_KEYS}))
    system = row.get("system", row.get("system_prompt"))
    tools = decoded(row.get("tools"))
    tools = None if isinstance(tools, str) and tools.strip() in ("", "null") else tools
    made.tools = [without_nulls(tool.get("function") or tool) for tool in tools] if tools else None
    label = row.get("label", row.get("kto_tag"))
    made.label = None if label is None else mark(label)
    made.text = row.get("text")
    if (talk := row.get("conversations", row.get("messages"))) is not None:
        made.turns = turns_of(talk, "user", clean)
    elif (pairs := decoded(row.get("conversation"))) is not None:
        made.turns = [Turn(role, pair[key]) for pair in pairs for key, role in (("human", "user"), ("assistant", "assistant"))]
    elif "instruction" in row:
        joined = row.get("input") or None
        made.input = joined if "output" in row else None
        for question, answer in decoded(row.get("history")) or []:
            made.turns += [Turn("user", question), Turn("assistant", answer)]
        made.turns.append(Turn("user", "\n".join(filter(None, [row["instruction"], joined]))))
        made.turns += [Turn("assistant", row["output"])] if row.get("output") is not None else []
    elif (prompt := row.get("prompt", row.get("question"))) is not None:
        made.turns = turns_of(prompt, "user", clean) + turns_of(row.get("completion", row.get("answer")), "assistant", clean)
    if row.get("chosen") is not None:
        made.chosen, made.rejected = (turns_of(row[key], "assistant", clean) for key in ("chosen", "rejected"))
        if not made.turns:
            shared = 0
            while shared < min(len(made.chosen), len(made.rejected)) - 1 and made.chosen[shared] == made.rejected[shared]:
                shared += 1
            made.turns, made.chosen, made.rejected = made.chosen[:shared], made.chosen[shared:], made.rejected[shared:]
    if made.turns and made.turns[0].role == "system":
        first = made.turns.pop(0)
        system = first.content
        made.more.update(first.more | ({"name": first.name} if first.name else {}))
    made.system = system if system and system.strip() else None
    return made


@dataclass(frozen=True)
class Difference:
    """What is not as it was: a kind, what it is about, the row, and both values for a person to see."""

    kind: str
    about: str
    row: str
    before: Any
    after: Any

    def __str__(self) -> str:
        show = lambda value: s if len(s := json.dumps(value, ensure_ascii=False, default=str)) < 110 else s[:107] + "…"
        return f"{self.row}: {self.kind}{f' {self.about}' if self.about else ''}: {show(self.before)} → {show(self.after)}"


def same_text(value: Any, text: Any) -> bool:
    """Whether a text is how a number or the like is written."""
    if not isinstance(text, str) or isinstance(value, str):
        return False
    other = decoded(text)
    return other == value or text == json.dumps(value) or text.lower() == str(value).lower()


def of_keys(row: str, before: dict, after: dict) -> list[Difference]:
    found = []
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if key not in after:
            found.append(Difference("null" if old is None else "key", key, row, old, "absent"))
        elif key not in before:
            found.append(Difference("gained", key, row, "absent", new))
        elif old != new and without_nulls(old) == without_nulls(new):
            found.append(Difference("null", key, row, old, new))
        elif old != new:
            found.append(Difference("type" if same_text(old, new) else "value", key, row, old, new))
    return found


class Way(Enum):
    """How far rows have come."""

    SAME = 1  # to the same schema: all must be as it was
    OTHER = 2  # to another one: calls may have got ids
    SPOKEN = 3  # to one whose calls are turns of their own: null content is empty content


def same_ids(old: list, new: list, way: Way) -> bool:
    return old == new or way is not Way.SAME and len(old) == len(new) and all(a is None or a == b for a, b in zip(old, new))


def of_turns(row: str, where: str, before: list[Turn], after: list[Turn], way: Way) -> list[Difference]:
    if [turn.role for turn in before] != [turn.role for turn in after]:
        return [Difference("turns", where, row, [(t.role, t.content or t.calls) for t in before], [(t.role, t.content or t.calls) for t in after])]
    found = []
    for n, (old, new) in enumerate(zip(before, after)):
        here = f"{where}[{n}]"
        note = lambda kind, a, b: found.append(Difference(kind, here, row, a, b)) if a != b else None
        if old.content != new.content:
            nothing = old.calls and not old.content and not new.content
            beside = old.calls and old.content and not new.content
            if not nothing or way is not Way.SPOKEN:
                found.append(Difference("beside" if beside else "null content" if nothing else "content", here, row, old.content, new.content))
        note("calls", old.calls, new.calls)
        if old.calls == new.calls and not same_ids(old.ids, new.ids, way):
            note("ids", old.ids, new.ids)
        if not same_ids([old.answers], [new.answers], way):
            note("ids", old.answers, new.answers)
        note("name", old.name, new.name)
        note("weight", old.weight, new.weight)
        note("reasoning", old.reasoning, new.reasoning)
        found += of_keys(row, old.more, new.more)
    return found


def differences(before: Row, after: Row, way: Way) -> list[Difference]:
    """How a row differs from what it was."""
    row, found = before.id, []
    note = lambda kind, a, b: found.append(Difference(kind, "", row, a, b)) if a != b else None
    old, new = before.turns, after.turns
    if before.chosen is not None and after.chosen is None:
        old = before.turns + before.chosen
        note("rejected", [turn.content for turn in before.rejected or []], None)
    else:
        for where in ("chosen", "rejected"):
            found += of_turns(row, where, getattr(before, where) or [], getattr(after, where) or [], way)
    found += of_turns(row, "turns", old, new, way)
    for kind in ("system", "tools", "text", "input"):
        note(kind, getattr(before, kind), getattr(after, kind))
    if before.label is False and after.label is None:
        found.append(Difference("learned", "", row, "label false", "an answer like any other"))
    else:
        note("label", before.label, after.label)
    return found + of_keys(row, before.more, after.more)
