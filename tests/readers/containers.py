"""Files read by others than lorascope: Python's json, polars, pyarrow, datasets."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from datasets import concatenate_datasets, load_dataset
from meaning import Row, read, whole, without_nulls

warnings.simplefilter("ignore")  # of the readers, about one another
CONTAINERS = ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "jsonl.zst"]


def raw(path: Path) -> list[dict]:
    """The rows as a reader gives them; what has no value in a table is no key."""
    name = path.name
    if name.endswith((".csv", ".tsv")):
        # Two quotes are an empty text; nothing is no value.
        frame = pl.read_csv(path, separator="\t" if name.endswith("tsv") else ",", infer_schema=False)
        return [{key: value for key, value in row.items() if value is not None} for row in frame.to_dicts()]
    if name.endswith(".parquet"):
        return [{key: value for key, value in row.items() if value is not None} for row in pq.read_table(path).to_pylist()]
    data = path.read_bytes()
    data = gzip.decompress(data) if name.endswith(".gz") else data
    data = zstandard.ZstdDecompressor().decompressobj().decompress(data) if name.endswith(".zst") else data
    text = data.decode()
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.split("\n") if line]


def rows(path: Path) -> dict[str, Row]:
    """The meanings of a file's rows by their ids."""
    clean = without_nulls if path.suffix == ".parquet" else whole
    found = [read(without_nulls(row) if path.suffix == ".parquet" else row, clean) for row in raw(path)]
    assert len({row.id for row in found}) == len(found), f"{path}: ids stand twice: {[row.id for row in found]}"
    return {row.id: row for row in found}


def faults_of_parquet(path: Path, again: Path, cache: Path) -> list[str]:
    """What readers of Parquet stumble on; `again` is another file of the same schema."""
    faults = []
    schema = pq.read_schema(path)

    def walk(name: str, kind: pa.DataType) -> None:
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            faults.append(f"{name} is {kind}, not large_string")
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            walk(f"{name}[]", kind.value_type)
        elif pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
            faults.append(f"{name} is {kind}, a view")
        elif pa.types.is_struct(kind):
            for one in kind:
                walk(f"{name}.{one.name}", one.type)

    for one in schema:
        walk(one.name, one.type)
    frame = pl.read_parquet(path)
    for name in frame.columns:
        texts = [value for value in frame[name].to_list() if isinstance(value, str)]
        if texts and all(text.startswith('"') and text.endswith('"') for text in texts):
            faults.append(f"the texts of {name} stand in quotes: {texts[0][:60]}")
        mixed = [text for text in texts if text[:1] == '"' and text[-1:] == '"'] and name in ("prompt", "completion", "chosen", "rejected", "instruction", "output", "text")
        if mixed and not texts[0].startswith('"'):
            faults.append(f"some texts of {name} stand in quotes")
        as_json = [text for text in texts if text[:1] in "[{" and name in ("prompt", "completion", "chosen", "rejected", "messages", "conversations", "conversation")]
        if as_json:
            faults.append(f"{len(as_json)} of {frame.height} values of {name} are JSON in a text: {as_json[0][:60]}")
    try:
        first, second = (load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(cache)) for file in (path, again))
        shared = [name for name in first.column_names if second.features.get(name) == first.features[name]]
        texts = [name for name in frame.columns if frame.schema[name] == pl.String]
        faults += [f"{name} is {second.features[name]} in another file" for name in texts if name in second.features and name not in shared]
        both = concatenate_datasets([first.select_columns(shared), second.select_columns(shared)])
        key = "id" if "id" in shared else shared[0]
        ordered = both.sort(key)[key]
        if list(ordered) != sorted(ordered):
            faults.append(f"sorted by {key}: {list(ordered)[:3]}")
    except Exception as error:  # whatever a reader says is a fault of the file
        faults.append(f"datasets: {type(error).__name__}: {str(error)[:160]}")
    return faults
