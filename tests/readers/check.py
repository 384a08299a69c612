"""Every schema in every container and back, and every schema as every other: nothing is lost in silence.

usage: check.py LORASCOPE [--only WORD ...] [--keep FOLDER]

LORASCOPE converts, readers that are not lorascope's compare: what is not as it was must stand in what
the command printed. Words of --only name schemas, containers or parts: containers, pairs, parquet, hazards, broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import containers
import readers
from containers import CONTAINERS
from meaning import Row, Way, differences, read
from rows import BROKEN, HAZARDS, ROWS
from said import Said, unsaid
from self_test import self_test

Table = dict[tuple[str, str], list[str] | None]


class Command:
    """lorascope data convert."""

    def __init__(self, binary: str, cache: Path) -> None:
        self.binary, self.env = binary, {**os.environ, "LORASCOPE_CACHE": str(cache)}

    def __call__(self, source: Path, out: Path, schema: str, *more: str) -> tuple[int, Said]:
        command = [self.binary, "data", "convert", str(source), str(out), "--to", schema, "--leave-out", *more]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=120)
        return done.returncode, Said(done.stdout + done.stderr)


def write(path: Path, rows: Iterable[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def fits(row: Row, schema: str) -> bool | None:
    """Whether a schema has a place for a row; `None` where that is a matter of taste."""
    turns = row.turns + (row.chosen or [] if schema != "preference" else [])
    if row.text is not None or schema == "text":
        return row.text is not None and schema == "text"
    if row.label is False and schema != "kto":
        return False
    match schema:
        case "preference":
            return row.chosen is not None
        case "kto":
            return row.label is not None
        case "alpaca" | "firefly":
            in_pairs = len(turns) % 2 == 0 and all(turn.role == ("user", "assistant")[n % 2] for n, turn in enumerate(turns))
            beside = any(turn.calls for turn in turns)
            if any(turn.role == "assistant" and turn.weight == 0 for turn in turns):
                return False  # nobody could see there that it is not to be learned
            return None if in_pairs and beside else in_pairs and all((turn.content or "").strip() for turn in turns)
        case "sharegpt" | "belle-chat":
            sides = [turn.role == "assistant" for turn in turns]
            return True if all(side != before for before, side in zip(sides, sides[1:])) else None
    return True


def compare(before: dict[str, Row], after: dict[str, Row], said: Said, schema: str, way: Way) -> list[str]:
    """What is wrong with a file that was made of rows."""
    wrong, found, gone = [], [], [id for id in before if id not in after]
    wrong += [f"{id}: came from nowhere" for id in after if id not in before]
    if len(gone) > (count := said.rows_gone()):
        wrong.append(f"{len(gone)} rows are gone, {count} were said: {', '.join(gone)}")
    wrong += [f"{id}: left out, though {schema} has a place for it" for id in gone if fits(before[id], schema)]
    for id in before.keys() & after.keys():
        if fits(before[id], schema) is False and before[id].label is not False:
            wrong.append(f"{id}: written, though {schema} has no place for it")
        found += differences(before[id], after[id], way)
    return wrong + [f"unsaid: {one}" for one in unsaid(sorted(found, key=str), said)]


def through_containers(convert: Command, folder: Path, schema: str, container: str) -> list[str]:
    source = write(folder / f"{schema}.jsonl", ROWS[schema])
    there, back = folder / f"{schema}-there.{container}", folder / f"{schema}-{container}-back.jsonl"
    before = {str(row["id"]): read(row) for row in ROWS[schema]}
    code, said = convert(source, there, schema)
    if code != 0:
        return [f"{schema} as {container}: exit {code}: {' / '.join(said.lines)[:300]}"]
    in_json = not container.startswith(("csv", "tsv", "parquet"))
    wrong = [f"there: {what}" for what in compare(before, containers.rows(there), said, schema, Way.SAME if in_json else Way.SPOKEN)]
    if in_json:
        wrong += [f"there: {fault}" for fault in readers.faults(schema, containers.raw(there))]
    code, more = convert(there, back, schema)
    if code != 0:
        return [*wrong, f"back from {container}: exit {code}: {' / '.join(more.lines)[:300]}"]
    wrong += [f"back: {what}" for what in compare(before, containers.rows(back), said + more, schema, Way.SAME)]
    return wrong + [f"back: {fault}" for fault in readers.faults(schema, containers.raw(back))]


def through_schemas(convert: Command, folder: Path, first: str, second: str) -> list[str] | None:
    source = write(folder / f"{first}.jsonl", ROWS[first])
    out = folder / f"{first}-as-{second}.jsonl"
    before = {str(row["id"]): read(row) for row in ROWS[first]}
    code, said = convert(source, out, second)
    if code != 0:
        possible = [id for id, row in before.items() if fits(row, second)]
        if not possible and not out.exists() and any("fit" in line or "holds" in line for line in said.lines):
            return None
        return [f"exit {code}, {len(possible)} rows fit: {' / '.join(said.lines)[:300]}"]
    way = Way.SAME if first == second else Way.SPOKEN if second in ("sharegpt", "belle-chat") else Way.OTHER
    wrong = compare(before, containers.rows(out), said, second, way)
    # Answers of several tools cannot take turns with the assistant; it is enough that this is said.
    announced = any("take turns" in line for line in said.lines)
    faults = readers.faults(second, containers.raw(out))
    return wrong + [fault for fault in faults if not (announced and "after observation" in fault)]


def parquet(convert: Command, folder: Path, schema: str) -> list[str]:
    """Files of one schema, one made of its own rows and one of others', in the hands of readers."""
    other = {"alpaca": "firefly", "text": "text", "preference": "preference", "kto": "kto"}.get(schema, "alpaca")
    own, again = folder / f"{schema}-own.parquet", folder / f"{schema}-of-{other}.parquet"
    for source, out in ((schema, own), (other, again)):
        code, said = convert(write(folder / f"{source}.jsonl", ROWS[source]), out, schema)
        if code != 0:
            return [f"exit {code}: {' / '.join(said.lines)[:300]}"]
    return containers.faults_of_parquet(own, again, folder / "datasets")


def hazards(convert: Command, folder: Path, container: str) -> list[str]:
    """Texts that look like something else, one file each: the same text comes back, or the command refuses with a reason."""
    wrong = []
    for n, text in enumerate(HAZARDS):
        row = {"id": "h", "instruction": "echo", "input": "", "output": text} if text.strip() else {"id": "h", "text": f"x{text}"}
        schema = "alpaca" if "output" in row else "text"
        there, back = folder / f"hazard-{n}.{container}", folder / f"hazard-{n}-{container}-back.jsonl"
        code, said = convert(write(folder / f"hazard-{n}-in.jsonl", [row]), there, schema)
        if code != 0:
            if not any("csv" in line.lower() and ("read" in line or "type" in line) for line in said.lines):
                wrong.append(f"{text!r}: exit {code}: {' / '.join(said.lines)[:200]}")
            continue
        for step, made in (("there", containers.raw(there)), ("back", containers.raw(back) if convert(there, back, schema)[0] == 0 else None)):
            key = "output" if schema == "alpaca" else "text"
            if made is None or [one.get(key) for one in made] != [row[key]]:
                wrong.append(f"{text!r} {step}: {made and made[0].get(key)!r}")
    return wrong


def broken(convert: Command, folder: Path, schema: str) -> list[str]:
    """Values that cannot be used are named with their lines, and the good rows are written."""
    good, wrong = ROWS[schema][0], []
    for n, row in enumerate(BROKEN[schema]):
        out = folder / f"broken-{schema}-{n}.jsonl"
        _, said = convert(write(folder / f"broken-{schema}-{n}-in.jsonl", [good, {"id": "broken", **row}, {**good, "id": "last"}]), out, schema)
        if not any("line 2" in line for line in said.lines):
            wrong.append(f"{json.dumps(row)}: no word of line 2: {' / '.join(said.lines)[:200]}")
        if not out.exists() or {"last", good["id"]} - set(containers.rows(out)):
            wrong.append(f"{json.dumps(row)}: good rows are missing: {' / '.join(said.lines)[:200]}")
    return wrong


def show(title: str, rows: list[str], columns: list[str], table: Table) -> int:
    if not table:
        return 0
    print(f"\n{title}")
    wide = max(len(row) for row in rows)
    print(" " * wide, *[f"{column:>{max(len(column), 4)}}" for column in columns])
    for row in rows:
        cells = []
        for column in columns:
            cell = table.get((row, column), "")
            shown = "" if cell == "" else "–" if cell is None else f"✗ {len(cell)}" if cell else "ok"
            cells.append(f"{shown:>{max(len(column), 4)}}")
        print(f"{row:<{wide}}", *cells)
    failed = {key: cell for key, cell in table.items() if cell}
    for (row, column), cell in failed.items():
        print(f"  {row} · {column}")
        for what in cell or []:
            print(f"      {what}")
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lorascope")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    self_test(compare)
    subprocess.run([given.lorascope, "--version"], check=True, stdout=subprocess.DEVNULL)
    wanted = lambda *words: all(any(word in words for word in group) for group in [given.only] if given.only)
    schemas, failed = list(ROWS), 0
    with tempfile.TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.*"):
            old.unlink()
        convert = Command(given.lorascope, folder / "cache")
        table: Table = {(s, c): through_containers(convert, folder, s, c) for s in schemas for c in CONTAINERS if wanted("containers", s, c)}
        failed += show("schema × container, and back", schemas, CONTAINERS, table)
        for old in folder.glob("*.*"):
            old.rename(folder / f"c-{old.name}") if given.keep and not old.name.startswith("c-") else None
        table = {(a, b): through_schemas(convert, folder, a, b) for a in schemas for b in schemas if wanted("pairs", a, b)}
        failed += show("schema (rows) as schema (columns), for those who read it; – no row fits, which was said", schemas, schemas, table)
        table = {(s, "parquet"): parquet(convert, folder, s) for s in schemas if wanted("parquet", s)}
        failed += show("Parquet for datasets and polars", schemas, ["parquet"], table)
        table = {("texts", c): hazards(convert, folder, c) for c in CONTAINERS if wanted("hazards", c)}
        failed += show("texts that look like something else", ["texts"], CONTAINERS, table)
        table = {(s, "broken"): broken(convert, folder, s) for s in BROKEN if wanted("broken", s)}
        failed += show("values that cannot be used", list(BROKEN), ["broken"], table)
    print(f"\n{failed} cells failed" if failed else "\nall of it held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
