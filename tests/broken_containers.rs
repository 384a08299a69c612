//! Containers that are cut off, damaged or something else: what is broken is said.

mod common;

use std::path::Path;

use crate::common::files::{Files, MIXED, message};
use crate::common::found::{PRETTY, gzip, problems, whats};
use lorascope::dataset::Dataset;
use lorascope::format::RowSchema;

/// Alpaca rows as the library packs them.
fn packed(files: &Files, text: &str, ending: &str) -> Vec<u8> {
    let path = files.path(&format!("part.jsonl.{ending}"));
    let data = Dataset::open(files.put("part.jsonl", text)).unwrap();
    data.overwrite(&path, RowSchema::Alpaca).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn archives_in_parts_and_cut_off() {
    let files = Files::new();
    let row =
        |i: usize| format!("{{\"instruction\": \"q{i}\", \"output\": \"{}\"}}\n", "a".repeat(i % 50 + 1));
    let (first, second): (String, String) =
        ((0..10_000).map(row).collect(), (10_000..20_000).map(row).collect());
    let text = format!("{first}{second}");
    let whole = Dataset::open(files.put("plain.jsonl", &text)).unwrap();
    for ending in ["gz", "zst"] {
        let name = &format!("x.{ending}");
        let parts = [packed(&files, &first, ending), packed(&files, &second, ending)].concat();
        let data = Dataset::open(files.put(name, &parts)).unwrap();
        assert_eq!(data.fingerprint().unwrap(), whole.fingerprint().unwrap());
        assert_eq!(data.rejected().unwrap(), 0);
        assert_eq!(data.recipe().unwrap().size, parts.len() as u64, "the stored bytes are counted");

        let cut = Dataset::open(files.put(name, &parts[..parts.len() * 3 / 4])).unwrap();
        assert!(cut.len() >= 10_000 && cut.len() < 20_000, "{}", cut.len());
        let what = whats(&cut).pop().unwrap();
        assert!(what.ends_with("archive is cut off here"), "{what}");
        assert!(
            problems(&cut).contains(&("broken file".to_string(), cut.len() as u32 + 1))
                || cut.rejected().unwrap() == 2
        );

        let mut bent = parts.clone();
        let at = bent.len() * 3 / 4;
        bent[at..at + 64].fill(0x55);
        let bent = Dataset::open(files.put(name, &bent)).unwrap();
        // A damage that unpacks to other text shows at the checksum, at the end of the part.
        let what = whats(&bent).pop().unwrap();
        assert!(what.contains("archive is damaged here") || bent.len() < 20_000, "{ending}: {what}");
        assert!(bent.rejected().unwrap() > 0, "{ending}: {what}");
        assert_ne!(bent.recipe().unwrap().fingerprint, data.recipe().unwrap().fingerprint);
    }
    let error = Dataset::open(files.put("rows.jsonl.gz", b"\x1f\x8b\x08\x00")).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "rows.jsonl.gz: the gzip archive is cut off here; fetch the file again"
    );
}

/// A gigabyte of one line, packed into some kilobytes, is a fault and costs no gigabyte.
#[test]
fn a_bomb_costs_no_more_than_a_record_may() {
    let files = Files::new();
    // A frame of zstd (RFC 8878): blocks of bytes as they are, and of one byte 131,072 times.
    const BLOCK: usize = 1 << 17;
    let block = |last: bool, repeated: bool, size: usize, bytes: &[u8]| {
        let header = u32::from(last) | u32::from(repeated) << 1 | (size as u32) << 3;
        [&header.to_le_bytes()[..3], bytes].concat()
    };
    let before = b"{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"";
    let after = b"\"}\n{\"instruction\": \"c\", \"output\": \"d\"}\n";
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    frame.extend(block(false, false, before.len(), before));
    (0..(1usize << 30) / BLOCK).for_each(|_| frame.extend(block(false, true, BLOCK, b"x")));
    frame.extend(block(true, false, after.len(), after));
    assert!(frame.len() < 40_000);
    let path = files.put("bomb.jsonl.zst", frame);
    let data = Dataset::open(&path).unwrap();
    assert_eq!((data.len(), problems(&data)), (2, vec![("too large".to_string(), 2)]));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 900 << 10, "{peak} kB");
}

#[test]
fn what_cannot_be_read_says_so() {
    let files = Files::new();
    let open =
        |name: &str, bytes: &[u8]| message(&Dataset::open(files.put(name, bytes)).unwrap_err(), &files);
    assert_eq!(
        open("wide.json", b"\xff\xfe[\0]\0"),
        "wide.json: the text is in UTF-16LE, not in UTF-8; convert it with iconv -f UTF-16 -t UTF-8"
    );
    assert_eq!(
        open("a.zip", b"PK\x03\x04\x14\0\0\0"),
        "a.zip: this is zip, not JSON, CSV or Parquet; unpack it first"
    );
    assert_eq!(
        open("empty.json.gz", &gzip(b" \n ")),
        "empty.json.gz: the file is empty; name a file that holds JSON, CSV or Parquet"
    );
    for bytes in [&b"PAR1"[..], b"PAR1 is no magic, PAR1", b"PAR1\x15\0\0\0PAR1"] {
        let said = open("a.parquet", bytes);
        assert!(said.starts_with("a.parquet: the Parquet file is damaged"), "{said}");
    }
    let data = Dataset::open(files.put("a.jsonl", MIXED)).unwrap();
    let error = data.write(files.path("a.parquet.gz"), RowSchema::OpenAi).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "a.parquet.gz: Parquet has its own compression; end the name in .parquet"
    );
}

/// Containers whose bytes are damaged at random: rows, problems or an error, never a panic.
mod damage {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let files = Files::new();
        let data = Dataset::open(files.put("mixed.jsonl", MIXED)).unwrap();
        let mut seeds = vec![("pretty.json", PRETTY.as_bytes().to_vec())];
        for name in ["a.jsonl", "b.json", "c.csv", "d.parquet", "e.jsonl.gz", "f.csv.zst"] {
            let path = files.path(name);
            data.write(&path, RowSchema::OpenAi).unwrap();
            seeds.push((name, std::fs::read(path).unwrap()));
        }
        seeds
    }

    fn open(path: &Path) {
        match Dataset::open(path) {
            Ok(data) => assert!(!data.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

        #[test]
        fn damaged_files_never_panic(
            which in 0..7usize,
            damage in proptest::collection::vec((any::<Index>(), prop_oneof![
                proptest::collection::vec(any::<u8>(), 1..4),
                Just(b"\"".to_vec()), Just(b"{".to_vec()), Just(b"[".to_vec()), Just(b"\n".to_vec()),
                Just(vec![0xff; 4]), Just(vec![0x80; 5]),
            ]), 1..5),
            cut in proptest::option::weighted(0.2, any::<Index>()),
        ) {
            static SEEDS: std::sync::OnceLock<Vec<(&'static str, Vec<u8>)>> = std::sync::OnceLock::new();
            let (name, mut bytes) = SEEDS.get_or_init(seeds)[which].clone();
            for (at, with) in damage {
                let at = at.index(bytes.len() - with.len());
                bytes[at..at + with.len()].copy_from_slice(&with);
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let files = Files::new();
            open(&files.put(name, bytes));
        }
    }
}
