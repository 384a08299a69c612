"""What the command line said, and whether it covers a difference."""

from __future__ import annotations

import re

from meaning import Difference

# The words that announce each kind of difference. What is not here is never right.
WORDS = {
    "null": r"\bnulls?\b", "null content": r"\bnulls?\b|without (a )?text", "beside": r"beside|text of (a )?calls?|text .*calls?",
    "calls": r"\bcalls?\b", "ids": r"which call|tool_call_id|\bids?\b", "name": r"\bnames?\b", "weight": r"weights?\b|learned",
    "reasoning": r"reasoning|thinking", "label": r"labels?\b", "rejected": r"rejected (answers?|turns?)|`rejected`", "system": r"system",
    "tools": r"\btools\b", "input": r"\binput\b", "turns": r"answers? of tools|observation|merged|joined|one turn",
    "type": r"numbers?|booleans?|true or false|\btypes?\b|as (a )?texts?",
}
COUNT = re.compile(r"([\d,]+) (?:rows?|records?)\b")
# What is said of one row of the file, or of the file as a whole, announces nothing.
OF_ONE = re.compile(r"\bline \d+: | written to ")
GONE = re.compile(r"left out|rejected|not written|skipped", re.IGNORECASE)


class Said:
    """The lines that a command printed."""

    def __init__(self, text: str) -> None:
        self.lines = [line.strip() for line in text.splitlines() if line.strip()]

    def __add__(self, other: Said) -> Said:
        return Said("\n".join(self.lines + other.lines))

    def rows_gone(self) -> int:
        """How many rows it says were left out; what was left out *of* rows ends in `in N rows`."""
        count = 0
        for line in self.lines:
            of_rows = re.search(r"\bin [\d,]+ rows?$", line) or re.search(r": [\d,]+ rows?$", line) and "`" in line
            if GONE.search(line) and not of_rows and not OF_ONE.search(line) and (found := COUNT.search(line)):
                count += int(found[1].replace(",", ""))
        return count

    def covers(self, difference: Difference, rows: int) -> bool:
        """Whether a line announces this kind of difference, for as many rows as have it."""
        patterns = [re.escape(f"`{difference.about}`")] if difference.kind in ("key", "type", "null") else []
        if difference.kind in WORDS:
            patterns.append(WORDS[difference.kind])
        for line in self.lines:
            if not OF_ONE.search(line) and any(re.search(pattern, line, re.IGNORECASE) for pattern in patterns):
                counts = [int(count.replace(",", "")) for count in COUNT.findall(line)]
                if not counts or max(counts) >= rows:
                    return True
        return False


def unsaid(found: list[Difference], said: Said) -> list[Difference]:
    """The differences that no line covers."""
    rows: dict[tuple, set] = {}
    for one in found:
        rows.setdefault(kind_of(one), set()).add(one.row)
    return [one for one in found if not said.covers(one, len(rows[kind_of(one)]))]


def kind_of(one: Difference) -> tuple:
    return (one.kind, one.about if one.kind in ("key", "type", "null", "gained", "value") else "")
